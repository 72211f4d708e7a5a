"""Facts that turn an Avalanche template into a clgym strategy and that its constructor lacks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

__all__ = ["ALL", "CLASSES", "Body", "Extra", "Recipe"]

CLASSES = ("class-incremental", "task-incremental")
ALL = (*CLASSES, "domain-incremental")

Body = Literal["classifier", "featured", "features", "split", "contrastive", "packed"]


def _nothing(*_: Any) -> None:
    pass


class Extra(NamedTuple):
    """An option that Avalanche's constructor does not have."""

    name: str
    kind: Any
    default: Any
    help: str


@dataclass(frozen=True)
class Recipe:
    """What `AvalancheStrategy` must know of a template besides its constructor.

    A template of your own needs few of these: ``memory`` where it keeps samples, ``kept`` where it
    keeps them as tensors instead of Avalanche's datasets.
    """

    summary: str = ""
    body: Body = "classifier"
    """Kind of model that the strategy takes: the classifier, one with ``get_features``, only the
    part before the head, both parts separately, or Avalanche's contrastive or packed model."""
    head: Literal["growing", "total"] = "growing"
    """Whether the head has a column for every class of the stream from the start."""
    multi_head: bool = False
    """Whether the strategy passes task ids to its model, so that each task can have its own head.
    The others have one head on task-incremental streams, as in Avalanche."""
    memory: bool = False
    """Whether the strategy keeps samples, at most as many as its option ``memory_size`` says."""
    past_data: bool = False
    """Whether the strategy is given the data of past experiences (joint training)."""
    rereads: bool = False
    """Whether the strategy reads the rows of an experience again, besides its epochs."""
    afresh: bool = False
    """Whether every experience gets a new strategy (joint training)."""
    sgd: bool = True
    """Whether the strategy has an optimizer, and so its options."""
    settings: tuple[str, ...] = ALL
    new_classes_only: bool = False
    """Whether every experience must bring classes that have not been seen before."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Defaults of options that have none in Avalanche, or an unsuitable one."""
    extra: tuple[Extra, ...] = ()
    """Additional options of clgym."""
    hidden: tuple[str, ...] = ()
    """Options of the constructor that a user cannot set."""
    given: Callable[[Any], dict[str, object]] = lambda owner: {}
    """Function from the adapter to constructor arguments that depend on the stream."""
    before: Callable[[Any, Any], None] = _nothing
    """Function called with the template and the view before each experience."""
    after: Callable[[Any, int], None] = _nothing
    """Function called with the template and the memory size after each experience, before samples
    are counted."""
    kept: Callable[[Any], list[tuple[Any, Any]]] = lambda template: []
    """Pairs (images, class indices) that the template keeps as tensors."""
    beside: Callable[[Any], list[Any]] = lambda template: []
    """Tensors that predictions depend on and that are not part of the template's model."""
    refuse: Callable[[Any], None] = _nothing
    """Function called with the config in `setup`; raises if options contradict each other."""
    restored: Callable[[Any], None] = _nothing
    """Function called with the template after a saved state is restored."""
    check: Mapping[str, Any] = field(default_factory=dict)
    """`Strategy.CHECK_CONFIG`."""
    fails: Mapping[str, str] = field(default_factory=dict)
    """`Strategy.KNOWN_FAILURES`."""
