"""`Wrapper`: a strategy around one that trains by SGD and whose training it changes.

A wrapper's own part is a companion: an Avalanche plugin that is called before the plugins of the
strategy that learns. Wrappers nest to any depth, and the outermost one's companion is called first.
In a step (with refresh, sam and ema around a strategy, in any order) that gives::

    before_training_iteration   refresh unlearns the new samples; then the strategy draws old ones
    forward, loss, backward     the strategy's own
    after_backward              sam moves the weights uphill, repeats these three, moves them back
    before_update, step         the strategy's own: projections and clipping see the last gradient
    after_update                ema updates its average with the new weights
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import TypeVar

from clgym.avalanche.loop import EVENTS, hears
from clgym.avalanche.sgd import SGDStrategy
from clgym.avalanche.stages import StagedStrategy
from clgym.config import Wrapped
from clgym.errors import Incompatible
from clgym.strategy import Batch, Config, Experience, Needs, Strategy, StreamInfo

__all__ = ["Wrapper", "WrapperConfig"]


@dataclass(frozen=True)
class WrapperConfig(Config):
    """Options of a wrapper; those of the base follow as ``base.OPTION``."""

    base: Wrapped = Wrapped("naive")
    """Strategy that learns: any that trains by SGD, or a wrapper around one."""


C = TypeVar("C", bound=WrapperConfig, default=Any)


class Wrapper(Strategy[C]):
    """A base strategy with a companion.

    Attributes:
        base: The wrapped strategy: an `SGDStrategy` or a `Wrapper`.
        companion: What `make_companion` returned.
        companions: Companions of the wrappers around this one, outermost first.
    """

    Config: ClassVar[type] = WrapperConfig
    transient: ClassVar[tuple[str, ...]] = ("companions",)
    companions: tuple[Any, ...] = ()

    def __init__(self, config: C) -> None:
        """Take the base from the config."""
        super().__init__(config)
        self.base: Any = config.base.make()

    @property
    def needs(self) -> Needs:
        """What the base needs."""
        return self.base.needs

    @property
    def learner(self) -> SGDStrategy:
        """The innermost strategy, whose network is trained."""
        return self.base.learner if isinstance(self.base, Wrapper) else self.base

    @property
    def moves_on_elsewhere(self) -> bool:
        """Whether an experience begins with weights other than those that predicted before it."""
        return isinstance(self.base, Wrapper) and self.base.moves_on_elsewhere

    def make_companion(self) -> Any:
        """The Avalanche plugin that does the wrapper's work, if any; called once, in `setup`.

        A plugin that is `Stateful` is saved by its attributes.
        """
        return None

    def setup(self, info: StreamInfo) -> None:
        """Set up the base, with this wrapper's companion before those inside it.

        Raises:
            Incompatible: The base does not train by SGD, trains in stages, or takes its steps
                itself although the companion needs events inside them.
        """
        super().setup(info)
        if isinstance(self.base, StagedStrategy):
            raise Incompatible(
                expected="a base that trains an experience in one go",
                found=f"{self.config.base.name}, which trains it in stages of its own",
                fix="Give --base another strategy, such as derpp or avalanche:EWC",
            )
        if not isinstance(self.base, (SGDStrategy, Wrapper)):
            raise Incompatible(
                expected="a base that trains by SGD",
                found=repr(self.config.base.name),
                fix="Give --base another strategy, such as derpp or avalanche:EWC",
            )
        self.companion = self.make_companion()
        own = () if self.companion is None else (self.companion,)
        self.base.companions = (*self.companions, *own)
        self.base.setup(info)
        if self.learner.template.observe is not None and hears(own, EVENTS[1:-1]):
            raise Incompatible(
                expected="a base whose steps are a loss, its gradient and an update",
                found=f"{type(self.learner).__name__}, which takes its steps itself",
                fix="Give --base another strategy, such as derpp or avalanche:EWC",
            )

    def train(self, experience: Experience) -> None:
        """Train the base, which calls the companion."""
        self.base.train(experience)

    def predict(self, batch: Batch) -> Tensor:
        """Logits of the base, [n, classes seen]."""
        return self.base.predict(batch)

    def represent(self, batch: Batch) -> Tensor:
        """Features of the base."""
        return self.base.represent(batch)

    def predict_by_head(self, batch: Batch) -> Mapping[str, Tensor]:
        """Logits of the base by head, if it has several heads."""
        return self.base.predict_by_head(batch)

    def costs(self) -> dict[str, float]:
        """The base's costs and the companion's own, by name."""
        own: Mapping[str, float] = getattr(self.companion, "costs", {})
        return {**self.base.costs(), **own}
