"""Choice of the implementation by which torch's optimizers take a step."""

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from clgym.errors import Incompatible

__all__ = ["OptimizerKernel"]

_OPTIONS = {
    "single": {"foreach": False, "fused": False},
    "foreach": {"foreach": True, "fused": False},
    "fused": {"foreach": False, "fused": True},
}
"""Options of torch's optimizers, by kernel."""


class OptimizerKernel:
    """Sets the kernel of every optimizer just before each of its steps.

    So it reaches all optimizers, whenever and by whatever code they are made, and those whose
    options a loaded state has replaced. It overrides what a strategy chose.

    Attributes:
        used: Whether an optimizer has taken a step with the kernel.
    """

    def __init__(self, kernel: Literal["single", "foreach", "fused"]) -> None:
        """Change nothing yet."""
        self._kernel, self._options, self.used = kernel, _OPTIONS[kernel], False

    @contextmanager
    def active(self) -> Generator[None]:
        """Use the kernel in the block."""
        hook = register_optimizer_step_pre_hook(self._before_step)
        try:
            yield
        finally:
            hook.remove()

    def _before_step(self, optimizer: Optimizer, args: object, kwargs: object) -> None:
        self.used = True
        for group in optimizer.param_groups:
            if self._kernel == "fused" and isinstance(optimizer, torch.optim.SGD):
                _start_late_momentum(optimizer, group)
            options = {name: value for name, value in self._options.items() if name in group}
            if options.items() <= group.items() and self._kernel in ("single", *options):
                continue
            self._check(optimizer, group)
            group.update(options)

    def _check(self, optimizer: Optimizer, group: Mapping[str, Any]) -> None:
        """Refuse an optimizer that cannot use the kernel.

        Raises:
            Incompatible: It has no such kernel, differentiates through its steps, would change the
                gradients that others read after the step, or keeps its counters on another device.
        """
        if self._kernel == "single":
            return
        name = type(optimizer).__name__
        if self._kernel not in group:
            found = f"{name}, which has none"
        elif group.get("differentiable"):
            found = f"{name} with differentiable=True"
        elif self._kernel == "foreach" and group.get("nesterov"):
            found = f"{name} with Nesterov momentum, whose foreach kernel changes the gradients"
        elif self._kernel == "fused" and _counts_elsewhere(optimizer, group["params"]):
            found = f"{name}, whose counters of steps are on another device than its parameters"
        else:
            return
        raise Incompatible(
            expected=f"optimizers with a {self._kernel} kernel, for --optimizer-kernel",
            found=found,
            fix="Leave out --optimizer-kernel, or choose another optimizer or kernel",
        )


def _start_late_momentum(optimizer: torch.optim.SGD, group: Mapping[str, Any]) -> None:
    """Give parameters whose first gradient comes later than that of others a momentum of 0.

    Other kernels set it to that gradient, which is the same without dampening; the fused one fails.

    Raises:
        Incompatible: There is dampening.
    """
    moved = [p for p in group["params"] if p.grad is not None] if group["momentum"] else []
    new = [p for p in moved if optimizer.state.get(p, {}).get("momentum_buffer") is None]
    if not new or len(new) == len(moved):
        return
    if group["dampening"]:
        raise Incompatible(
            expected="gradients for the same parameters in every step, for the fused kernel of SGD "
            "with dampening",
            found=f"the first gradients of {len(new)} more",
            fix="Give --optimizer-kernel foreach",
        )
    for parameter in new:
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _counts_elsewhere(optimizer: Optimizer, parameters: Iterable[torch.Tensor]) -> bool:
    """Whether counters of steps were made for another kernel, which keeps them on the CPU."""
    for parameter in parameters:
        count = optimizer.state.get(parameter, {}).get("step")
        if isinstance(count, torch.Tensor) and count.device != parameter.device:
            return True
    return False
