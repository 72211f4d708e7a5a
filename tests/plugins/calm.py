"""Avalanche templates of a user: one that is a strategy as it stands, others that cannot be."""

from typing import Any

from avalanche.training.plugins import AGEMPlugin, ReplayPlugin, SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate


class _Small(SupervisedPlugin):
    """Keeps logits small, and counts what it has seen: a state that nobody saves by hand."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength, self.seen = strength, 0

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.seen += len(strategy.mb_x)
        strategy.loss += self.strength / self.seen * strategy.mb_output.square().mean()


class Calm(SupervisedTemplate):
    """Replay with small logits."""

    def __init__(
        self, *, strength: float = 0.1, mem_size: int = 200, plugins: Any = None, **kwargs: Any
    ) -> None:
        own = [_Small(strength), ReplayPlugin(mem_size)]
        super().__init__(plugins=[*(plugins or []), *own], **kwargs)


class Unsaved(SupervisedTemplate):
    """Has a plugin of Avalanche's that holds a running iterator."""

    def __init__(self, *, mem_size: int = 200, plugins: Any = None, **kwargs: Any) -> None:
        super().__init__(plugins=[*(plugins or []), AGEMPlugin(mem_size, 8)], **kwargs)


class Demanding(SupervisedTemplate):
    """Takes an object that no option can give."""

    def __init__(self, *, buffer: list[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.buffer = buffer


class Closed(SupervisedTemplate):
    """Does not hand on what every template gets."""

    def __init__(self, *, model: Any, optimizer: Any) -> None:
        super().__init__(model=model, optimizer=optimizer)
