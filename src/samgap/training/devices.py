"""The device of a run."""

import os

import torch

from samgap.errors import SettingError
from samgap.training.plan import RunPlan


def chosen(plan: RunPlan) -> torch.device:
    """Return the device of a run.

    Raises:
        SettingError: this machine lacks the device, or the settings do not fit it.
    """
    accelerator = plan.machine.accelerator
    if accelerator == "gpu" or (accelerator == "auto" and torch.cuda.is_available()):
        if not torch.cuda.is_available():
            raise SettingError("trainer=gpu needs a CUDA device and torch finds none here: set trainer=cpu.")
        if plan.machine.devices > 1 and (rank := os.environ.get("LOCAL_RANK")):  # a probe has only one process
            torch.cuda.set_device(int(rank))
        return torch.device("cuda", torch.cuda.current_device())
    if plan.settings["precision"] == "tf32":
        raise SettingError("precision=tf32 needs a CUDA device, and this run is on the CPU: set precision=32-true.")
    if plan.synchronized:
        raise SettingError("model.batch_norm=synchronized needs CUDA devices: set model.batch_norm=local.")
    return torch.device("cpu")


def name(device: torch.device) -> str:
    """Return the name of a GPU, or cpu."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def versions(device: torch.device) -> dict[str, str]:
    """Return a GPU's compute capability and the versions of CUDA and cuDNN; empty for the CPU."""
    if device.type == "cpu":
        return {}
    capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
    cudnn = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    return {"capability": capability, "cuda": str(torch.version.cuda), "cudnn": cudnn}
