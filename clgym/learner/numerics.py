"""Options for speed that change the last digits: arithmetic, formats, compilation, kernels."""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from clgym.errors import Incompatible
from clgym.learner.optimizer_kernels import OptimizerKernel
from clgym.learner.reachable import roots_of, walk
from clgym.messages import Numerics
from clgym.strategy import Strategy

__all__ = ["NumericMode"]


class NumericMode:
    """Applies `Numerics` to everything that a strategy does after its setup.

    Frozen features are computed without it, so that the cache is the same for all runs.
    """

    def __init__(self, numerics: Numerics, device: torch.device) -> None:
        """Change nothing yet."""
        self._numerics, self._device = numerics, device
        kernel = numerics.optimizer_kernel
        self._kernel = None if kernel == "auto" else OptimizerKernel(kernel)

    @property
    def compiles(self) -> bool:
        """Whether networks are compiled."""
        return self._numerics.compile

    def take(self, strategy: Strategy) -> None:
        """Check a strategy after its setup, and compile its networks if requested.

        Raises:
            Incompatible: The strategy has no network to which the options apply, or one that would
                not stay compiled.
        """
        numerics = self._numerics
        if not (numerics.channels_last or numerics.compile):
            return
        networks = _networks(strategy)
        modules = [module for network in networks for module in network.modules()]
        if numerics.channels_last and not any(isinstance(m, nn.Conv2d) for m in modules):
            raise Incompatible(
                expected="a network with convolutions, for --channels-last",
                found="no convolution"
                if networks
                else "a strategy without a network after its setup",
                fix="Leave out --channels-last",
            )
        if numerics.compile and _is_template(strategy):
            raise Incompatible(
                expected="a strategy that keeps its networks, for --compile",
                found="one of Avalanche, whose networks are made again from every saved state",
                fix="Leave out --compile",
            )
        if numerics.compile and not networks:
            raise Incompatible(
                expected="a strategy that has a network after its setup, for --compile",
                found="none",
                fix="Leave out --compile",
            )
        if numerics.compile:
            for network in networks:
                whole: Any = network  # untyped in torch
                whole.compile()  # in place, so that names of parameters and the class stay

    def check_used(self, strategy: Strategy, number: int) -> None:
        """Check a strategy after its first experience, or its first batch of adaptation.

        Later ones are not checked, since some strategies train only in the first experience, and a
        continued run does not repeat it.

        Args:
            strategy: The strategy.
            number: Index of the experience or batch.

        Raises:
            Incompatible: It has taken no step of an optimizer and holds none, so that
                ``--optimizer-kernel`` would do nothing.
        """
        if number or self._kernel is None or self._kernel.used:
            return
        held = (value for _, value in walk(roots_of(strategy)))
        if not any(isinstance(value, torch.optim.Optimizer) for value in held):
            raise Incompatible(
                expected="a strategy that trains by an optimizer of torch, for --optimizer-kernel",
                found="no step of an optimizer",
                fix="Leave out --optimizer-kernel",
            )

    @contextmanager
    def active(self) -> Generator[None]:
        """Use the requested arithmetic, memory format and optimizer kernel in the block."""
        with nullcontext() if self._kernel is None else self._kernel.active(), self._formats():
            yield

    @contextmanager
    def _formats(self) -> Generator[None]:
        numerics, kind = self._numerics, self._device.type
        hook = _last_channels() if numerics.channels_last else None
        matmul: Any = torch.backends.cuda.matmul  # whose attributes are typed as bool or str
        before = bool(matmul.allow_tf32), bool(torch.backends.cudnn.allow_tf32)
        fast = numerics.arithmetic == "tf32"
        try:
            if fast:
                _allow_tf32(True, True)
            if numerics.arithmetic == "bf16":
                # Without its cache of weights, which would keep those of the first step.
                with torch.autocast(kind, dtype=torch.bfloat16, cache_enabled=False):
                    yield
            else:
                yield
        finally:
            if fast:
                _allow_tf32(*before)
            if hook is not None:
                hook.remove()


def _allow_tf32(products: bool, convolutions: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = products
    torch.backends.cudnn.allow_tf32 = convolutions


def _last_channels() -> Any:
    """A hook that converts the input of every convolution to the channels-last format.

    Later layers keep that format. The format of weights is not changed, and so neither are states.
    """

    def before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not isinstance(module, nn.Conv2d) or not args or args[0].ndim != 4:
            return None
        return args[0].contiguous(memory_format=torch.channels_last), *args[1:]

    register: Any = nn.modules.module.register_module_forward_pre_hook  # typed as returning None
    return register(before)


def _is_template(strategy: Strategy) -> bool:
    """Whether an Avalanche template does the work of a strategy."""
    return any(base.__module__ == "clgym.avalanche.adapter" for base in type(strategy).__mro__)


def _networks(strategy: Strategy) -> list[nn.Module]:
    """Networks that a strategy refers to and that are not inside others."""
    found = [value for _, value in walk(roots_of(strategy)) if isinstance(value, nn.Module)]
    parts = {id(part) for network in found for part in network.modules() if part is not network}
    return [network for network in found if id(network) not in parts]
