"""Other SAM steps in torch: an eager SAM with first_step and second_step, pytorch_optimizer's, a Lightning loop."""

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class TwoStepSAM(Optimizer):
    """SAM as most repositories write it: two calls around a second pass in the user's code."""

    def __init__(self, params: Any, base: type[Optimizer], rho: float, **options: Any) -> None:
        super().__init__(params, {"rho": rho, **options})
        self.base = base(self.param_groups, **options)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        """Move to w + eps."""
        weights = [w for group in self.param_groups for w in group["params"] if w.grad is not None]
        norm = torch.norm(torch.stack([w.grad.norm() for w in weights]))
        scale = self.defaults["rho"] / (norm + 1e-12)
        for w in weights:
            self.state[w]["old"] = w.data.clone()
            w.add_(w.grad * scale)
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        """Restore w and take the base's step."""
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    w.data = self.state[w]["old"]
        self.base.step()
        if zero_grad:
            self.zero_grad()


def two_step(net: nn.Module, x: Tensor, y: Tensor, rho: float, **sgd: float) -> Callable[[], float]:
    """Return a function that takes one step of a bare loop with `TwoStepSAM` on a fixed batch and returns the loss."""
    return _loop(net, x, y, TwoStepSAM(net.parameters(), SGD, rho, **sgd))


def pytorch_optimizer(net: nn.Module, x: Tensor, y: Tensor, rho: float, **sgd: float) -> Callable[[], float]:
    """Return the same as `two_step`, with pytorch_optimizer's SAM."""
    from pytorch_optimizer import SAM

    return _loop(net, x, y, SAM(net.parameters(), SGD, rho=rho, **sgd))  # type: ignore[arg-type]


def _loop(net: nn.Module, x: Tensor, y: Tensor, optimizer: Any) -> Callable[[], float]:
    net.train()

    def once() -> float:
        loss = F.cross_entropy(net(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.first_step(zero_grad=True)
        F.cross_entropy(net(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.second_step(zero_grad=True)
        return loss.item()

    return once


class Pictures(Dataset[tuple[Tensor, int]]):
    """Returns images one at a time through PIL, like torchvision's data sets."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images.squeeze(1).numpy(), labels.numpy()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(np.asarray(self.images[index]))), int(self.labels[index])


class Plain(LightningModule):
    """A two-step SAM in Lightning, as in a tutorial."""

    def __init__(self, net: nn.Module, rho: float, **sgd: float) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net, self.rho, self.sgd = net, rho, sgd

    def configure_optimizers(self) -> Any:
        """Return `TwoStepSAM`."""
        return TwoStepSAM(self.net.parameters(), SGD, self.rho, **self.sgd)

    def training_step(self, batch: Any, index: int) -> None:
        """Run both passes."""
        x, y = batch
        optimizer: Any = self.optimizers()
        logits = self.net(x)
        loss = F.cross_entropy(logits, y)
        self.manual_backward(loss)
        optimizer.first_step(zero_grad=True)
        self.manual_backward(F.cross_entropy(self.net(x), y))
        optimizer.second_step(zero_grad=True)
        self.log("train_loss", loss)
        self.log("train_acc", (logits.argmax(dim=1) == y).float().mean())


def lightning_seconds(net: nn.Module, images: Tensor, labels: Tensor, rho: float, **sgd: float) -> float:
    """Return the seconds per step of a Lightning loop over one epoch, with batches of 128."""
    loader = DataLoader(Pictures(images, labels), 128, shuffle=True, drop_last=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(
            accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        task = Plain(net, rho, **sgd)
        started = time.perf_counter()
        trainer.fit(task, loader)
    return (time.perf_counter() - started) / len(loader)
