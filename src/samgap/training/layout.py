"""How a batch is divided among processes, ascents and forward passes.

Each rank (process, one per device) has a consecutive part of a batch of `batch_size` examples. Each consecutive group
of m examples has its own ascent (m-sharpness, Foret et al. 2021, section 4.1), for any number of ranks: one rank may
have several groups, or several ranks share one. The last batch of an epoch is divided the same way. It may leave a
group smaller or a rank without examples; gradients are always means over examples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from samgap.errors import SettingError


@dataclass(frozen=True)
class Group:
    """The part of an ascent group that one rank computes."""

    start: int  # index among the rank's examples
    stop: int
    size: int  # number of examples of the whole group, on all ranks that share it
    share: float  # weight of this rank's gradient of the group in the sum over ranks and groups


@dataclass(frozen=True)
class Layout:
    """The division of a batch."""

    batch_size: int
    m: int  # examples that share an ascent
    ranks: int
    forward: int  # largest number of examples in a forward pass on one rank

    @property
    def span(self) -> int:
        """The number of ranks that share one ascent group."""
        return max(1, self.m * self.ranks // self.batch_size)

    def groups(self, size: int, rank: int) -> list[Group]:
        """Return the ascent groups of `rank`, or its part of a group, in a batch of `size` examples."""
        local = self.batch_size // self.ranks
        first, last = min(size, rank * local), min(size, (rank + 1) * local)
        if self.span == 1:
            bounds = [(start, min(start + self.m, last)) for start in range(first, last, self.m)]
            return [Group(start - first, stop - first, stop - start, (stop - start) / size) for start, stop in bounds]
        start = rank // self.span * self.m
        whole = min(size, start + self.m) - start
        # After `Ranks.sum_group`, all ranks of a group have its whole gradient. If a sum over all ranks follows, each
        # of the `span` ranks must add only 1/span of it.
        parts = self.span if self.span < self.ranks else 1
        return [Group(0, last - first, whole, whole / size / parts)] if whole > 0 else []

    def batch_norm_size(self, norm: str) -> int:
        """Return the number of examples in the statistics of batch norm, whose `norm` is local or synchronized.

        Raises:
            SettingError: the statistics cannot be synchronized.
        """
        if norm == "local":
            return self.forward
        if self.forward < min(self.m, self.batch_size // self.ranks):
            raise SettingError("model.batch_norm=synchronized needs undivided passes: set trainer.micro_batch=null.")
        if 1 < self.span < self.ranks:
            raise SettingError(
                f"model.batch_norm=synchronized is over all devices, and ascent.m={self.m} over {self.span} of "
                f"{self.ranks}: set model.batch_norm=local, or ascent.m=null."
            )
        return self.m

    def check_batch_norm(self, images: int, synchronized: bool) -> None:
        """Check that batch norm can train on every batch of an epoch, including the last.

        Args:
            images: number of training images.
            synchronized: whether batch norm takes its statistics from all ranks.

        Raises:
            SettingError: a forward pass has one image, or a rank has none while the others wait for it.
        """
        for size in {min(images, self.batch_size), images % self.batch_size} - {0}:
            for rank in range(self.ranks):
                parts = [group.stop - group.start for group in self.groups(size, rank)]
                if synchronized and sum(parts) == 0:
                    raise SettingError(
                        f"In a batch of {size} images some device has none, and model.batch_norm=synchronized needs "
                        "all of them: change data.train_size or batch_size."
                    )
                if not synchronized and any(part % self.forward == 1 or self.forward == 1 for part in parts):
                    raise SettingError(
                        f"In a batch of {size} images a forward pass has a single one, and batch norm needs two: "
                        "change data.train_size, batch_size, ascent.m or trainer.micro_batch."
                    )


def layout(settings: Mapping[str, Any], ranks: int = 1, micro_batch: int | None = None) -> Layout:
    """Return the layout for these settings.

    Args:
        settings: contains `batch_size`, `ascent` and `model`.
        ranks: number of processes of the run, one per device.
        micro_batch: largest number of examples in a forward pass on one device; None does not divide passes.

    Raises:
        SettingError: the numbers do not divide each other.
    """
    size = settings["batch_size"]
    batch_norm = {"batch_norm", "batch_norm_size"} & {*settings["model"]}
    # Without ascents, m matters only for batch norm.
    m = min(settings["ascent"].get("m") or size, size) if batch_norm or settings["ascent"].get("rho") else size
    if size % ranks:
        raise SettingError(f"batch_size must be a multiple of trainer.devices ({ranks}), got {size}.")
    local = size // ranks
    if local % m and (m % local or ranks % (m // local)) and ranks > 1:
        raise SettingError(
            f"ascent.m must divide the {local} examples of a device, or be a multiple of them that divides "
            f"batch_size ({size}), got {m}: change ascent.m, batch_size or trainer.devices."
        )
    micro = micro_batch or size
    if batch_norm and micro < min(m, local) and min(m, local) % micro:
        raise SettingError(
            f"trainer.micro_batch must divide the {min(m, local)} examples that a device has for an ascent, since "
            f"batch norm sees the parts: got {micro}."
        )
    return Layout(size, m, ranks, min(m, local, micro))
