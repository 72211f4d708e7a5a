"""Avalanche's training loop without the parts that cost time and are not needed here."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from avalanche.core import BasePlugin, BaseSGDPlugin, SupervisedPlugin
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.templates import SupervisedTemplate
from avalanche.training.templates.base_sgd import BaseSGDTemplate, PeriodicEval
from avalanche.training.templates.update_type.sgd_update import SGDUpdate

from clgym.avalanche.feed import TrainLoader
from clgym.strategy import TrainBatch

__all__ = ["EVENTS", "FastLoop", "evaluate_loss", "fast", "hears", "hooks_of"]

EVENTS = (
    "before_training_iteration",
    "before_forward",
    "after_forward",
    "before_backward",
    "after_backward",
    "before_update",
    "after_update",
    "after_training_iteration",
)
"""Events of a training step that plugins may receive, in order."""

_EMPTY = (BasePlugin, BaseSGDPlugin, SupervisedPlugin)
"""Modules in which Avalanche defines callbacks that do nothing."""

Hook = Callable[..., Any]
Hooks = tuple[Hook, ...]


def hooks_of(template: Any, event: str) -> Hooks:
    """The callbacks for ``event`` that do something, in the order in which Avalanche calls them."""
    method = f"_{event}"
    if getattr(type(template), method) is not getattr(BaseSGDTemplate, method):
        own = getattr(template, method)  # a strategy's own: it calls the plugins itself
        return (lambda strategy, **kwargs: own(**kwargs),)
    return tuple(getattr(p, event) for p in template.plugins if _overrides(p, event))


def hears(plugins: Iterable[Any], events: Iterable[str]) -> bool:
    """Whether one of the plugins overrides the callback of one of these events."""
    return any(_overrides(plugin, event) for event in events for plugin in plugins)


def _overrides(plugin: Any, event: str) -> bool:
    if event in vars(plugin):
        return True
    owner = next((cls for cls in type(plugin).__mro__ if event in vars(cls)), None)
    return owner is not None and owner not in _EMPTY


class FastLoop:
    """Mixin of Avalanche strategies: clgym's loader, and calls of overridden hooks only.

    Attributes:
        feed: Batches of the present experience, set by the caller of `train`.
        n_new: Number of new samples in the present batch. They come first; samples from a memory
            follow them.
        observe: Function that takes a whole step with a batch and returns its loss, in place of
            forward pass, loss, backward pass and update; None leaves these to the template.
    """

    feed: TrainLoader | None = None
    observe: Callable[[TrainBatch], Any] | None = None
    _used: TrainBatch | None = None
    mbatch: Any
    mb_output: Any
    experience: Any
    dataloader: Any
    optimizer: Any
    plugins: list
    train_epochs: int
    _stop_training: bool
    _adapted: Any = None
    _untouched: Any = None

    _plain_epoch: ClassVar[bool] = True
    """Whether the strategy uses Avalanche's plain epoch, which clgym replaces."""

    @property
    def n_new(self) -> int:
        """Number of new samples in the present batch."""
        return self.feed.n_new if self.feed is not None else 0

    @property
    def train_batch(self) -> TrainBatch:
        """The present batch: new samples, and those that a memory or a plugin has added."""
        images = self.mbatch[0]
        given = None if self.feed is None else self.feed.batch
        for known in (self._used, given):
            if known is not None and known.images is images:
                return known
        labels, tasks = self.mbatch[1], self.mbatch[-1]
        start = TrainBatch(images, labels, tasks=tasks) if given is None else given
        return start.replaced(images, labels, tasks, self.n_new)

    def use(self, batch: TrainBatch) -> None:
        """Use this batch for the present step."""
        self._used = batch
        self.mbatch = batch.minibatch()

    def drop_idle_plugins(self) -> None:
        """Remove metrics and periodic evaluation, which the gym replaces."""
        idle = (EvaluationPlugin, PeriodicEval)
        # PackNet's list holds None where it was given no plugins.
        self.plugins = [p for p in self.plugins if p is not None and not isinstance(p, idle)]

    @property
    def adapted_dataset(self) -> Any:
        """The dataset to train on, for Avalanche's plugins; made when it is first read."""
        if self._adapted is None and self.experience is not None:
            self._adapted = self._untouched = self.experience.dataset.train()
        return self._adapted

    @adapted_dataset.setter
    def adapted_dataset(self, dataset: Any) -> None:
        self._adapted = dataset
        if dataset is None:
            self._untouched = None

    def train_dataset_adaptation(self, **kwargs: Any) -> None:
        """Begin with the rows of the experience."""
        self.adapted_dataset = None

    def make_train_dataloader(self, **kwargs: Any) -> None:
        """Use clgym's loader, unless a plugin replaced the experience's rows by other data."""
        assert self.feed is not None
        if self._adapted is self._untouched and not self.experience.replaced:
            self.dataloader = self.feed
        else:
            super().make_train_dataloader(**kwargs)  # type: ignore[misc]

    def _train_exp(self, experience: Any, eval_streams: Any = None, **kwargs: Any) -> None:
        """Train the remaining epochs; a continued run starts in the middle."""
        template, feed = self, self.feed
        assert feed is not None
        if self.dataloader is not feed:
            feed.source, self.dataloader = self.dataloader, feed
        while feed.position.epoch < self.train_epochs and not self._stop_training:
            if feed.rate is not None:
                for group in template.optimizer.param_groups:
                    group["lr"] = feed.rate(feed.position.epoch)
            template._before_training_epoch(**kwargs)  # type: ignore[attr-defined]
            template.training_epoch(**kwargs)
            template._after_training_epoch(**kwargs)  # type: ignore[attr-defined]
        self._used = None  # its images are out of reach from now on

    def training_epoch(self, **kwargs: Any) -> None:
        """Train one epoch, with hooks in Avalanche's order."""
        if self._plain_epoch:
            _epoch(self, **kwargs)
        else:
            super().training_epoch(**kwargs)  # type: ignore[misc]


def _epoch(template: Any, **kwargs: Any) -> None:
    """Avalanche's `SGDUpdate.training_epoch`, with the hooks looked up once."""
    begin, pre, post, pre_back, post_back, pre_step, post_step, end = (
        hooks_of(template, event) for event in EVENTS
    )
    alone = not any((pre, post, pre_back, post_back, pre_step, post_step))
    feed = template.feed
    for batch in template.dataloader:
        template.mbatch = batch
        if template._stop_training:
            break
        template._unpack_minibatch()
        _call(begin, template, kwargs)
        if template.observe is not None:
            template.mb_output = None
            template.loss = template.observe(template.train_batch)
            feed.experience.loss = template.loss.detach()
            _call(end, template, kwargs)
            continue
        template.optimizer.zero_grad()
        _evaluate(template, (pre, post, pre_back), kwargs, alone)
        template.backward()
        _call(post_back, template, kwargs)
        _call(pre_step, template, kwargs)
        template.optimizer_step()
        _call(post_step, template, kwargs)
        feed.experience.loss = template.loss.detach()
        _call(end, template, kwargs)


def _call(hooks: Hooks, template: Any, kwargs: dict[str, object]) -> None:
    for hook in hooks:
        hook(template, **kwargs)


def evaluate_loss(template: Any, **kwargs: Any) -> Any:
    """The whole loss of the present batch, `template.loss`: penalties and distillation included."""
    pre, post, pre_back = (hooks_of(template, event) for event in EVENTS[1:4])
    _evaluate(template, (pre, post, pre_back), kwargs)
    return template.loss


def _evaluate(
    template: Any,
    hooks: tuple[Hooks, Hooks, Hooks],
    kwargs: dict[str, object],
    alone: bool = False,
) -> None:
    """Compute the loss; ``alone``: no hook is called that might change it in place."""
    pre, post, pre_back = hooks
    empty: Any = None if alone else template._make_empty_loss()
    template.loss = empty
    _call(pre, template, kwargs)
    template.mb_output = template.forward()
    _call(post, template, kwargs)
    loss = template.criterion()
    if alone:  # with the shape of the sum
        template.loss = loss.reshape(1) if loss.ndim == 0 else loss
    else:  # Avalanche's empty loss is float32, and would round a float64 one.
        template.loss = template.loss.to(loss.dtype) + loss
    _call(pre_back, template, kwargs)


def fast(strategy_class: type = SupervisedTemplate) -> type:
    """The Avalanche strategy class with clgym's loop mixed in."""
    own = getattr(strategy_class, "training_epoch", None)
    plain = {"_plain_epoch": own is SGDUpdate.training_epoch, "__doc__": FastLoop.__doc__}
    return type(f"Fast{strategy_class.__name__}", (FastLoop, strategy_class), plain)
