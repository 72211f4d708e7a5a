"""Options for speed that change the last digits: arithmetic, memory format, compilation."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from clgym.errors import Incompatible
from clgym.learner.reachable import roots_of, walk
from clgym.messages import Numerics
from clgym.strategy import Strategy

__all__ = ["NumericMode"]


class NumericMode:
    """Carries out `Numerics` around everything that a strategy does after its setup.

    Frozen features are computed outside of it: what the cache keeps is the same for all runs.
    """

    def __init__(self, numerics: Numerics, device: torch.device) -> None:
        """Change nothing yet."""
        self._numerics, self._device = numerics, device

    @property
    def compiles(self) -> bool:
        """Whether networks are compiled."""
        return self._numerics.compile

    def take(self, strategy: Strategy) -> None:
        """Look at a strategy that is set up, and have its networks compiled where that is asked.

        Raises:
            Incompatible: it has no network that the options concern.
        """
        numerics = self._numerics
        if not (numerics.channels_last or numerics.compile):
            return
        networks = _networks(strategy)
        modules = [module for network in networks for module in network.modules()]
        if numerics.channels_last and not any(isinstance(m, nn.Conv2d) for m in modules):
            raise Incompatible(
                expected="a network with convolutions, for --channels-last",
                found="none" if networks else "a strategy without a network after its setup",
                fix="Leave out --channels-last",
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
                whole.compile()  # in place: names of parameters and the class stay

    @contextmanager
    def active(self) -> Generator[None]:
        """Inside: the arithmetic and the memory format that were asked for."""
        numerics, kind = self._numerics, self._device.type
        hook = _last_channels() if numerics.channels_last else None
        matmul: Any = torch.backends.cuda.matmul  # whose attributes are typed as bool or str
        before = bool(matmul.allow_tf32), bool(torch.backends.cudnn.allow_tf32)
        fast = numerics.arithmetic == "tf32"
        try:
            if fast:
                _allow_tf32(True, True)
            if numerics.arithmetic == "bf16":
                # Without its cache of weights, which would go on with those of the first step.
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
    """A hook through which every convolution is fed images whose channels lie together.

    What follows it keeps that format. Weights keep theirs, so that states are as ever.
    """

    def before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not isinstance(module, nn.Conv2d) or not args or args[0].ndim != 4:
            return None
        return args[0].contiguous(memory_format=torch.channels_last), *args[1:]

    register: Any = nn.modules.module.register_module_forward_pre_hook  # typed as returning None
    return register(before)


def _networks(strategy: Strategy) -> list[nn.Module]:
    """Networks in a strategy's reach that are no parts of others."""
    found = [value for _, value in walk(roots_of(strategy)) if isinstance(value, nn.Module)]
    parts = {id(part) for network in found for part in network.modules() if part is not network}
    return [network for network in found if id(network) not in parts]
