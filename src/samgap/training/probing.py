"""Carry out probes on the final net of a run."""

import io
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from samgap import provenance
from samgap.curvature.examples import Examples
from samgap.curvature.probes import Subject
from samgap.data.sets import Data
from samgap.errors import SettingError
from samgap.pruning.mask import Masks
from samgap.runs import measurements
from samgap.runs.records import RunRecord
from samgap.targets import call
from samgap.training import build
from samgap.training.plan import RunPlan

WEIGHTS = "weights.pt"


def subject(plan: RunPlan, net: nn.Module, data: Data, masks: Masks, device: torch.device) -> Subject:
    """Return a trained net with its training images, in order and not augmented; all on `device`.

    There are only as many images as the requested probes need, since images in files may not fit in memory.
    """
    part = data.train.to(device)
    counts: list[Any] = [settings.get("examples") for settings in plan.requested.values()]
    first = slice(max(counts) if counts and all(type(count) is int and count > 0 for count in counts) else None)
    images = data.normalize(part.images[first].to(device))  # reads files once; probes use all images many times
    masks = {name: mask.to(device) for name, mask in masks.items()}
    return Subject(net.to(device), build.loss(plan), Examples(images, part.labels[first]), masks)


def keep(net: nn.Module, identity: str, path: Path) -> None:
    """Write a net's state dict to `path`, with the run's identity in its metadata."""
    weights: Any = net.state_dict()
    weights._metadata[""]["identity"] = identity
    content = io.BytesIO()  # torch.save to a file does not report a full disk
    torch.save(weights, content)
    path.write_bytes(content.getbuffer())


def restored(plan: RunPlan, record: RunRecord, folder: Path, device: torch.device) -> Subject:
    """Return the net of a finished run, from weights.pt.

    Raises:
        SettingError: there are no weights, they belong to another run or net, or the data have changed.
    """
    if not (folder / WEIGHTS).exists():
        raise SettingError(
            f"{folder} is done and kept no weights to look at: move it away and start the run again with "
            "trainer.keep_weights=true."
        )
    data = build.data(plan)
    # Regression data are computed, not read, and differ between machines by rounding.
    if not data.regression and build.sha256(data) != record.data_sha256:
        raise SettingError(
            f"{folder} was trained on other data than {plan.place['data_dir']} holds now (data_sha256 in record.json): "
            "bring back the data of the run (data_dir)."
        )
    net, masks = build.net(plan, data)
    if plan.settings["precision"] == "64-true":
        net.double()
    try:
        weights = torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True)
        net.load_state_dict(weights)
    except Exception as error:
        raise SettingError(f"{folder / WEIGHTS} does not hold this net ({type(error).__name__}).") from error
    owner = getattr(weights, "_metadata", {}).get("", {}).get("identity", record.identity)  # older files lack it
    if owner != record.identity:
        raise SettingError(
            f"{folder / WEIGHTS} is of another run ({owner}): move the folder away and start the run again."
        )
    return subject(plan, net, data, masks, device)


def carry_out(plan: RunPlan, names: list[str], trained: Subject, record: RunRecord, folder: Path) -> None:
    """Carry out the probes `names`, and write each result with its provenance to `folder`/probes/<name>.json.

    Raises:
        SettingError: a probe's settings are wrong.
    """
    requested = plan.requested
    for name in names:
        started = time.monotonic()
        found = call(f"probe.{name}", build.instantiated(f"probe.{name}", plan.probes[name]), trained)
        measurements.write(
            folder,
            name,
            {
                "probe": name,
                "settings": requested[name],
                "found": found,
                "identity": record.identity,
                "loss": record.settings["loss"]["name"],
                "train_loss_final": record.train_loss_final,
                "seconds": round(time.monotonic() - started, 3),
                "measured": provenance.now(),
                "host": provenance.host(),
                "device": trained.examples.labels.device.type,
                **provenance.sources(),
                "versions": provenance.versions(),
            },
        )
