"""SAMs with one fault each, all of which occur in published code, so that each check has something to detect."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from samgap.optim.sam import SAM, freeze_statistics, global_norm


class NotAtTheWeights(SAM):
    def gradient(self, closure: Callable[[], Tensor]) -> Tensor:
        weights = [w for group in self.param_groups for w in group["params"]]
        torch._foreach_add_(weights, 0.5)
        loss = super().gradient(closure)
        torch._foreach_sub_(weights, 0.5)
        return loss


class OnePass(SAM):
    def gradient(self, closure: Callable[[], Tensor]) -> Tensor:
        return closure()


class Downhill(SAM):
    def ascent(self, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        return [-eps for eps in super().ascent(weights, gradients)]


class NormByTensor(SAM):
    def ascent(self, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        return [super(NormByTensor, self).ascent([w], [g])[0] for w, g in zip(weights, gradients, strict=True)]


class ConstantInTheNorm(SAM):
    def ascent(self, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        return list(torch._foreach_mul(gradients, self.rho / (global_norm(gradients) + 1e-4)))


class NoGuard(SAM):
    def ascent(self, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        return list(torch._foreach_mul(gradients, self.rho / global_norm(gradients)))


class DecayInTheAscent(SAM):
    def ascent(self, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        decay = self.param_groups[0]["weight_decay"]
        return super().ascent(weights, [g + decay * w for w, g in zip(weights, gradients, strict=True)])


class HalfNorm(SAM):
    def ascent(self, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
        return [self.rho * g / norm for g in gradients]


class OnPrunedToo(SAM):
    """Masks weights but not gradients."""

    def ascent(self, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        return super().ascent(weights, [g + 1e-3 for g in gradients])


class BySubtraction(SAM):
    def gradient(self, closure: Callable[[], Tensor]) -> Tensor:
        loss = closure()
        weights = [w for group in self.param_groups for w in group["params"] if w.grad is not None]
        eps = self.ascent(weights, [w.grad for w in weights])
        torch._foreach_add_(weights, eps)
        with self._statistics_frozen():
            closure()
        torch._foreach_sub_(weights, eps)
        return loss


class NewMemory(SAM):
    def gradient(self, closure: Callable[[], Tensor]) -> Tensor:
        loss = super().gradient(closure)
        for group in self.param_groups:
            for w in group["params"]:
                w.data = w.data.clone()
        return loss


class ZeroIsFailure(SAM):
    @torch.no_grad()
    def step(self, closure: Any = None, *, groups: Any = None) -> Tensor:
        loss = self.gradient(torch.enable_grad()(closure))
        if loss:
            self.base.step()
        return loss


class ReturnsTheSecondLoss(SAM):
    def gradient(self, closure: Callable[[], Tensor]) -> Tensor:
        losses = []
        super().gradient(lambda: losses.append(closure()) or losses[-1])
        return losses[-1]


class RhoNeverZero(SAM):
    def __init__(self, base: Optimizer, rho: float, module: nn.Module | None = None) -> None:
        super().__init__(base, max(rho, 1e-3), module)


class StatisticsTwice(SAM):
    def __init__(self, base: Optimizer, rho: float) -> None:
        super().__init__(base, rho)


class StatisticsFrozen(SAM):
    def gradient(self, closure: Callable[[], Tensor]) -> Tensor:
        loss = super().gradient(closure)
        freeze_statistics(self.module)
        return loss


class FreshDropout(SAM):
    def gradient(self, closure: Callable[[], Tensor]) -> Tensor:
        calls: list[bool] = []

        def other() -> Tensor:
            calls.append(True)
            if len(calls) == 2:
                torch.rand(1)
            return closure()

        return super().gradient(other)


class KeepsAutocast(SAM):
    def gradient(self, closure: Callable[[], Tensor]) -> Tensor:
        clear, torch.clear_autocast_cache = torch.clear_autocast_cache, lambda: None
        try:
            return super().gradient(closure)
        finally:
            torch.clear_autocast_cache = clear


class MovesUnused(SAM):
    def gradient(self, closure: Callable[[], Tensor]) -> Tensor:
        def other() -> Tensor:
            loss = closure()
            for group in self.param_groups:
                for w in group["params"]:
                    w.grad = torch.ones_like(w) if w.grad is None else w.grad
            return loss

        return super().gradient(other)


class RestoresWhatHasAGradient(SAM):
    def gradient(self, closure: Callable[[], Tensor]) -> Tensor:
        weights = [w for group in self.param_groups for w in group["params"]]
        before = [w.detach().clone() for w in weights]
        loss = super().gradient(closure)
        for w, old in zip(weights, before, strict=True):
            if w.grad is None:
                w.copy_(old + 0.1)
        return loss


class ErrorLeavesEps(SAM):
    def gradient(self, closure: Callable[[], Tensor]) -> Tensor:
        loss = closure()
        weights = [w for group in self.param_groups for w in group["params"] if w.grad is not None]
        saved = [w.detach().clone() for w in weights]
        torch._foreach_add_(weights, self.ascent(weights, [w.grad for w in weights]))
        closure()
        torch._foreach_copy_(weights, saved)
        return loss


class ForgetsMomentum(SAM):
    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"state": {}}


class KeepsWeightsInState(SAM):
    def gradient(self, closure: Callable[[], Tensor]) -> Tensor:
        for group in self.param_groups:
            for w in group["params"]:
                self.state[w]["old_w"] = w.detach().clone()
        return super().gradient(closure)


class GroupsOfItsOwn(SAM):
    def __init__(self, base: Optimizer, rho: float, module: nn.Module | None = None) -> None:
        super().__init__(base, rho, module)
        self.param_groups = [dict(group) for group in base.param_groups]


class CopiedWithoutBase(SAM):
    def __getstate__(self) -> dict[str, Any]:
        return Optimizer.__getstate__(self)


class RanksPart(SAM):
    """Does not average the second pass over processes."""

    def gradient(self, closure: Callable[[], Tensor]) -> Tensor:
        loss = super().gradient(closure)
        for group in self.param_groups:
            for w in group["params"]:
                w.grad.mul_(1 + torch.distributed.get_rank())
        return loss
