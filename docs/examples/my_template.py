"""An Avalanche template with its own plugin: replay with a penalty on large logits."""

from typing import Any

from avalanche.training.plugins import ReplayPlugin, SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate


class _SmallLogits(SupervisedPlugin):
    """Adds a penalty to the loss; its attributes are saved and resumed."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        strategy.loss += self.strength * strategy.mb_output.square().mean()


class CalmReplay(SupervisedTemplate):
    """Replay with small logits: options are the arguments, samples are counted."""

    def __init__(
        self, *, strength: float = 0.01, mem_size: int = 200, plugins: Any = None, **kwargs: Any
    ) -> None:
        own = [_SmallLogits(strength), ReplayPlugin(mem_size)]
        super().__init__(plugins=[*(plugins or []), *own], **kwargs)
