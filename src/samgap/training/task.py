"""The Lightning module of every run: SGD or SAM steps, metrics of each epoch, and bit-for-bit resuming."""

import math
import warnings
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.callbacks import Callback
from torch import nn

from samgap import seeds
from samgap.data.batches import Batch, Epoch
from samgap.data.files import ImageFiles
from samgap.data.sets import Data, Split
from samgap.errors import SettingError
from samgap.optim.sam import SAM
from samgap.optim.wrapper import Wrapper
from samgap.pruning import mask
from samgap.pruning.mask import Masks
from samgap.runs import hits
from samgap.training import build, compiled, draws, stacked
from samgap.training.evaluate import Score, evaluate, share
from samgap.training.plan import RunPlan
from samgap.training.products import MKL, Chosen
from samgap.training.steppers import EagerStepper

Row = dict[str, float | int | None]
RADIUS_TOLERANCE = 0.01  # relative to rho; rounding of a small eps in float32 weights gives a few thousandths


class GapTask(LightningModule):
    """Trains one net by manual optimization, since SAM needs two passes per step. Each step calls the optimizer's
    `step` once, so Lightning's step count, checkpoints and schedulers are correct for SGD and SAM.
    """

    def __init__(self, plan: RunPlan, net: nn.Module, masks: Masks, data: Data) -> None:
        """
        Args:
            plan: the run's plan.
            net: takes images (B, c, h, w), gives logits (B, C).
            masks: by parameter name; empty for a dense net.
            data: the parts for training and evaluation.
        """
        super().__init__()
        self.automatic_optimization = False
        self.plan, self.net, self.masks, self.data = plan, net, masks, data
        self.loss, self.schedule = build.loss(plan), build.schedule(plan)
        self.steps: int = plan.settings["epochs"] * plan.epoch_steps(len(data.train))  # of the whole run
        if (warmup := plan.settings["schedule"].get("warmup_steps") or 0) > self.steps:
            warnings.warn(
                f"schedule.warmup_steps={warmup} is more than the {self.steps} steps of the run, so the "
                "learning rate only rises.",
                stacklevel=2,
            )
        # A resumed run keeps the stepper and the libraries that auto chose at its start.
        self.choice, self.products, self.known = plan.machine.stepper, plan.machine.products, Chosen()
        self.curve: list[Row] = []
        self.hits: hits.Packed = {}
        self.diverged = self.reached = False
        self._random: list[dict[str, Any]] = []

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and a schedule that advances once per step."""
        optimizer = build.optimizer(self.plan, self.net)
        return [optimizer], [build.Schedule(optimizer, lambda step: self.schedule(step, self.steps))]

    def on_fit_start(self) -> None:
        """Choose the stepper, and move the data for evaluation to the device once."""
        optimizer, normalize, clip_norm = self.optimizers(), self.data.normalize, self.plan.settings["clip_norm"]
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        eager = EagerStepper(
            self.net, self.loss, optimizer, self.manual_backward, normalize, self.plan.layout, clip_norm, callbacks
        )
        options = self.choice, self.steps, self.masks, str(self.trainer.precision), eager, self.products, self.known
        self.stepper = stacked.choose(
            self.plan,
            self.steps,
            self.masks,
            eager,
            lambda: compiled.choose(*options),
            isinstance(self.data.train.images, ImageFiles),
        )
        normalize.on(self.device)  # cached for all steps
        self.ranks = self.stepper.ranks
        self.ranks.broadcast(self.net, self.masks)
        self.parts = {"test": self._share(self.data.test)}
        if self.data.holdout is not None:
            self.parts["holdout"] = self._share(self.data.holdout)

    def on_train_start(self) -> None:
        """Restore the random state of a checkpoint, after Lightning has made any random draws."""
        if not self._random:
            return
        if len(self._random) != self.ranks.count:
            raise SettingError(
                f"last.ckpt was written by {len(self._random)} processes: set trainer.devices to that, "
                "or move it away and the run starts from the beginning."
            )
        random = self._random[self.ranks.number]
        seeds.restore_globals(random)
        if "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], self.device)

    def on_train_epoch_start(self) -> None:
        """Reset the sums over the epoch, which stay on the device, so that steps do not synchronize."""
        self._loss_sum = torch.zeros((), device=self.device, dtype=torch.float64)
        self._correct = torch.zeros((), device=self.device, dtype=torch.int64)
        self._seen = 0
        if isinstance(sam := self._optimizer(), SAM):
            # Measure the first ascent of an epoch; this needs a copy of the gradient, but no extra pass.
            sam.measuring, sam.measured, sam.ascents = True, None, 0
            sam.draws = draws.possible(self.net, self.loss, self.stepper.callbacks)

    def transfer_batch_to_device(self, batch: list[Batch], device: torch.device, dataloader_idx: int) -> list[Batch]:
        """Move batches from image files to the device; other batches are already there."""
        return [part.to(device) for part in batch] if isinstance(self.data.train.images, ImageFiles) else batch

    def training_step(self, block: list[Batch] | Epoch, block_index: int) -> None:
        """Take one SGD or SAM step for each batch of a block."""
        scheduler: Any = self.lr_schedulers()
        loss, correct, seen = self.stepper.block(block, scheduler.step)
        self._loss_sum += loss
        self._correct += correct
        self._seen += seen

    def on_train_epoch_end(self) -> None:
        """Add the epoch to the curve; stop the run if its loss is not finite or reaches stop_loss."""
        epoch = self.current_epoch + 1
        loss_sum, correct, seen = self.ranks.sums(float(self._loss_sum), float(self._correct), self._seen)
        loss = loss_sum / seen
        self.diverged = not math.isfinite(loss)
        self.ranks.average_statistics(self.net)
        row: Row = {
            "epoch": epoch,
            "step": self.global_step,
            # The learning rate of the last step; the scheduler has advanced to the next.
            "lr": self._base_lr() * self.schedule(self.global_step - 1, self.steps),
            "train_loss": None if self.diverged else loss,
            "train_acc": None if self.data.regression else correct / seen,
        }
        row |= self._ascent(sam) if isinstance(sam := self._optimizer(), SAM) else {}
        stop_loss, eval_every = self.plan.settings["stop_loss"], self.plan.settings["eval_every"]
        self.reached = stop_loss is not None and loss <= stop_loss
        if not self.diverged and (epoch % eval_every == 0 or epoch == self.trainer.max_epochs or self.reached):
            for name, part in self.parts.items():
                score = self.score(part)
                row |= {f"{name}_loss": score.loss, f"{name}_acc": score.acc}
                self._keep(name, epoch, score)
        self.curve.append(row)
        if self.trainer.logger is not None:
            self.trainer.logger.log_metrics(*logged(row))
        if self.diverged or self.reached:  # never set False: a callback may have set True
            self.trainer.should_stop = True

    def on_train_end(self) -> None:
        """Score the training images and the unused images, while the net is still on its device."""
        self.train_score = self.score(self._share(self.data.train))
        unused = self.data.unused
        self.unused_score = None if unused is None else self.score(self._share(unused))
        if self.unused_score is not None:
            self._keep("unused", int(self.curve[-1]["epoch"] or 0), self.unused_score)

    def score(self, part: Split) -> Score:
        """Return the score on a part, from this rank's share of it. If the loss is not finite, set `diverged`."""
        workers = self.plan.machine.workers
        score = evaluate(self.net, self.loss, self.data, part, workers=workers, sums=self.ranks.sums)
        self.diverged = self.diverged or not math.isfinite(score.loss)
        return score

    def _keep(self, part: str, epoch: int, score: Score) -> None:
        """Keep whether each image of a part was classified correctly after an epoch, from all ranks."""
        if not self.data.regression:
            self.hits.setdefault(part, {})[epoch] = hits.pack(torch.cat(self.ranks.gather(score.hits)).numpy())

    def _ascent(self, sam: SAM) -> Row:
        """Return measurements of the epoch's first ascent; warn if its radius differs from ascent.rho."""
        row: Row = {"sam_active": sam.ascents * (self.trainer.max_epochs or 0) / self.steps}
        if sam.measured is None:
            return row
        norm, eps, radius, rise, cosine = (float(value) for value in sam.measured)
        if norm > 0 and math.isfinite(norm) and not abs(radius - sam.rho) <= RADIUS_TOLERANCE * sam.rho:
            warnings.warn(
                f"In epoch {self.current_epoch + 1} the ascent had radius {radius:.4g}, and ascent.rho is {sam.rho:g}: "
                "the weights are too coarse for so small a step (precision), or something moved them.",
                stacklevel=2,
            )
        values = {"grad_norm": norm, "eps_norm": eps, "loss_rise": rise, "cosine": cosine}
        return row | {key: value if math.isfinite(value) else None for key, value in values.items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add curve, masks and random state to Lightning's checkpoint (weights, momentum, schedule, progress)."""
        random = seeds.global_states()
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        checkpoint["samgap"] = {
            "identity": self.plan.identity,
            "curve": self.curve,
            "hits": self.hits,
            "stepper": self.stepper.name,
            "products": self.known | self.stepper.products,  # an eager stepper has none and keeps the known ones
            # Another machine may round the pruner's scores differently, and get other masks.
            "masks": self.masks,
            "random": self.ranks.gather(random),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the values that `on_save_checkpoint` added.

        Raises:
            SettingError: the checkpoint belongs to another run.
        """
        if checkpoint["samgap"].get("identity") != self.plan.identity:
            raise SettingError("last.ckpt is of another run: move it away, and this one starts from the beginning.")
        saved = checkpoint["samgap"]
        if self.choice == "auto":
            stepper = saved.get("stepper", "eager").split(",")[0]  # older checkpoints are from eager runs
            self.choice = stepper if stepper in ("eager", "compiled") else "auto"  # a stacked run has no such choice
        if self.products == "auto" and "products" not in saved:  # older checkpoints are from runs with MKL
            self.products = MKL
        self.known = saved.get("products", {})
        mask.load(self.masks, saved.get("masks", self.masks))  # older checkpoints have no masks
        self.curve = list(saved["curve"])
        self.hits = saved.get("hits", {})  # older checkpoints have none, and their runs lack these epochs
        self._random = saved["random"]

    def _share(self, part: Split) -> Split:
        return share(part, self.ranks.number, self.ranks.count).to(self.device)

    def _optimizer(self) -> Wrapper:
        lightning_optimizer: Any = self.optimizers()
        return lightning_optimizer.optimizer

    def _base_lr(self) -> float:
        scheduler: Any = self.lr_schedulers()
        return float(scheduler.base_lrs[0])


def logged(row: Row) -> tuple[dict[str, float], int]:
    """Return the arguments of a logger's `log_metrics` for an epoch: its numbers without None, and the step."""
    return {key: value for key, value in row.items() if value is not None}, int(row["step"] or 0)
