"""The life cycle of a strategy, hook by hook.

The learner's process calls, in this order::

    strategy = Cls(config)            # stores, computes nothing
    strategy.setup(info)              # build networks on info.device
    strategy.load_state_dict(state)   # unless it is the first experience
    strategy.train(experience)        # one experience
    strategy.predict(batch)           # many times, after each experience
    strategy.represent(batch)         # on pretraining streams, instead of predict
    strategy.forget(request)          # on deletion streams, after the last experience
    strategy.state_dict()             # after each experience, and when train() offers a safe point

On learning streams each experience and each test has a process of its own, which begins with the
saved state.

A strategy gets only what its `Needs` declare and its scenario type allows. The gym withholds labels
of test rows, data of past and future experiences and, outside task-incremental streams, the task.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal

import torch
from torch import Tensor
from typing_extensions import TypeVar

from clgym import attributes
from clgym._moved import refuse_gone_methods, report_renamed
from clgym.attributes import State, Stateful
from clgym.classifier import Classifier
from clgym.data.experience import Augment, Batch, Experience, TrainBatch
from clgym.data.forgetting import ForgetRequest
from clgym.data.generators import torch_generator
from clgym.data.memory import Memory
from clgym.data.source_data import SourceData
from clgym.errors import BadConfig, BadPlugin
from clgym.messages import Fit, Frozen, ImagesOf, Needs
from clgym.subclassing import config_argument, knowing_experience
from clgym.text import Json

__all__ = [
    "Augment",
    "Batch",
    "Classifier",
    "Config",
    "Experience",
    "Fit",
    "ForgetRequest",
    "Frozen",
    "ImagesOf",
    "Memory",
    "Needs",
    "SourceData",
    "State",
    "Stateful",
    "Strategy",
    "StreamInfo",
    "TrainBatch",
    "torch_generator",
]


report_renamed(__name__)


@dataclass(frozen=True)
class Config:
    """Base of a strategy's options; subclass it as a frozen dataclass with defaults for all."""

    @classmethod
    def dependent_defaults(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Defaults that replace those of the fields because of other options in ``given``.

        Args:
            given: Options that the user gave, before validation.

        Returns:
            Defaults by option; the record contains them like any other option.
        """
        return {}


@dataclass(frozen=True, eq=False)
class StreamInfo:
    """Facts that a learner may know before the stream begins."""

    image_shape: tuple[int, int, int]
    """Channels, height and width of the images."""
    setting: Literal[
        "class-incremental", "task-incremental", "domain-incremental", "pretraining", "adaptation"
    ]
    device: torch.device
    seed: int
    """Seed of the learner; torch, numpy and random are seeded from it before every hook. For draws
    that must not depend on earlier draws use `Strategy.rng`, or outside of an experience
    ``torch_generator(info.seed, "strategy", "what is drawn", step=...)``."""
    mean: tuple[float, ...]
    """Mean of each channel, for images in [0, 1]; zeros if unknown."""
    std: tuple[float, ...]
    total_columns: int | None = None
    """Number of classes of the whole stream; None unless `Needs.total_classes` or the scenario type
    fixes it."""
    total_experiences: int | None = None
    """Number of experiences of the whole stream; None unless `Needs.total_experiences`."""
    single_pass: bool = False
    """Whether every training row may be read only once."""
    memory: Memory = field(default_factory=lambda: Memory(0))
    """Storage for at most `Needs.memory` samples of past experiences."""
    batch_size: int | None = None
    """Number of images per batch on adaptation streams."""
    class_names: tuple[str, ...] | None = None
    """On adaptation streams: names of the classes in words, by class index; None unless
    `Needs.class_names`. On learning streams `Experience.class_names` has the names of those seen.
    """
    classifier: Classifier | None = None
    """Classifier requested by `Needs.classifier`, in evaluation mode; the strategy may change
    it."""
    source_data: SourceData | None = None
    """Source data requested by `Needs.source_data`."""
    images: Tensor | None = None
    """Images without labels requested by `Needs.images`: uint8 [n, channels, H, W] on the device,
    which may have another height and width than those of the stream."""
    log: Callable[[Mapping[str, Any]], None] = lambda numbers: None
    """Receives the numbers that `Strategy.log` logs."""


# Type of a strategy's options; `Any` if a class only says ``Config = ...``.
C = TypeVar("C", bound=Config, default=Any)


_NoOptions = Config


class Strategy(Generic[C]):
    """Base of all continual learners. Subclass it in ``strategies/<name>.py``; one class per file.

    ``clgym list`` shows the first line of the file's docstring. ``class Mine(Strategy[
    MineConfig])`` sets `Config` and the type of ``self.config``.
    """

    Config: ClassVar[type] = _NoOptions
    """A frozen dataclass: every option typed, bounded and with one line of help under it. The type
    argument of the base class sets it."""

    DETERMINISTIC: ClassVar[bool] = False
    """Whether results are the same for every seed."""
    # A dict, since plugins annotate it as one, which a Mapping would not allow.
    CHECK_CONFIG: ClassVar[dict[str, Json]] = {}
    """Options for `clgym check` that make the strategy small and need no files."""
    CHECK_IMAGES: ClassVar[tuple[int, int, int]] = (1, 8, 8)
    """Channels, height and width of the images for `clgym check`."""
    transient: ClassVar[tuple[str, ...]] = ()
    """Names of attributes that are not part of the state: caches, and values that only `setup`
    sets.
    """
    KNOWN_FAILURES: ClassVar[Mapping[str, str]] = {}
    """Checks that the strategy is known to fail, with the reason, which records and the board
    show."""
    confidence_scale: float = 1.0
    """On adaptation streams: factor of the logits in the softmax that gives the confidence of a
    prediction; 1/2 if the logits are the sum of two networks' logits."""

    _experience: Experience | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Take `Config` from the base's type argument, and make `train` set `experience`.

        Raises:
            BadPlugin: ``Config`` is another class than the type argument.
        """
        super().__init_subclass__(**options)
        refuse_gone_methods(cls)
        stated, own = config_argument(cls, Strategy, _NoOptions), vars(cls).get("Config")
        if stated is not None:
            if own not in (None, stated):
                raise BadPlugin(
                    expected=f"one class of options for {cls.__name__}",
                    found=f"Config = {own.__name__}, and {stated.__name__} in the brackets of its "
                    "base",
                    fix="Remove the line Config = ...: the brackets set it",
                )
            cls.Config = stated
        if "train" in vars(cls):
            cls.train = knowing_experience(cls.train)

    def __init__(self, config: C) -> None:
        """Store ``config``; do no work here."""
        self.config: C = config

    @property
    def needs(self) -> Needs:
        """What the gym must provide; it may depend on the options, such as the size of a memory."""
        return Needs()

    def setup(self, info: StreamInfo) -> None:
        """Build networks on ``info.device``; called once, before the first experience.

        Call ``super().setup(info)``, which stores ``info``, when you override it.
        """
        self.info = info

    def train(self, experience: Experience) -> None:
        """Learn one experience. Its data cannot be read after this method returns."""
        raise NotImplementedError

    @property
    def experience(self) -> Experience:
        """The experience that `train` is learning.

        Raises:
            BadPlugin: No experience is being learned.
        """
        if self._experience is None:
            raise BadPlugin(
                expected="a call while an experience is being learned",
                found="a call outside of train",
                fix="Read self.experience and self.rng only in train and in methods that it calls",
            )
        return self._experience

    def rng(self, *name: str) -> torch.Generator:
        """Return a CPU generator for one draw, independent of those with other names.

        Its numbers depend only on the run's seed, the experience, the epoch and the step of its
        `Experience.batches`, and the name: ``torch.rand(n, generator=self.rng("mask"))``.

        Args:
            name: Purpose of the draw, in words.

        Raises:
            BadPlugin: No experience is being learned, or the name is not made of words.
        """
        here = self.experience
        return here.generator(*name, epoch=here.epoch, step=here.step)

    def predict(self, batch: Batch) -> Tensor:
        """Return logits, float [n, columns]; column c is the class of index c, in order of arrival.

        It is called under ``torch.no_grad``. It must not change state, and must not depend on which
        images share the batch (test-time methods use `adapt`).
        """
        raise NotImplementedError

    def represent(self, batch: Batch) -> Tensor:
        """Pretraining streams: features of images, float [n, width], on which the gym fits probes.

        It is called instead of `predict` under the same rules: under ``torch.no_grad``, without a
        change of state, each image independently of the others. The strategy chooses the width,
        which is the same for all images. Some of them are training images of the experiences so
        far, but the strategy does not learn which. Such streams have no labels: reading
        `TrainBatch.labels` or `Experience.labels` raises an error, and there are no classes
        (``experience.classes`` is empty).
        """
        raise NotImplementedError

    def predict_by_head(self, batch: Batch) -> Mapping[str, Tensor]:
        """Logits of several heads for one batch, each like those of `predict`, by name of the head.

        It is meant for methods that are reported with several heads, such as a linear head and the
        nearest mean of exemplars. The record states the accuracy of each; the main measures are
        those of `predict`. If a subclass overrides it, it is called like `predict`, under the same
        rules.
        """
        return {}

    def adapt(self, batch: Batch) -> Tensor:
        """Adaptation streams: predict an unlabelled batch, then learn from it.

        It is called once for every batch, with gradients enabled; the returned logits [n, columns]
        are scored. The strategy does not know where one domain ends and the next begins.
        """
        raise NotImplementedError

    def forget(self, request: ForgetRequest) -> None:
        """Deletion streams: forget some training rows; called once per request, after all learning.

        A class-incremental strategy that overrides this method can run on such streams. It gets the
        rows to forget (``request.forgotten``) and, with ``Needs(retained_data=True)``, those that
        remain (``request.retained``); both can be read until it returns. Samples of the request in
        ``info.memory`` are removed before the call. Further data that it needs, such as
        importances, it must store while it learns. `predict` must still return logits for all
        classes. An interrupted request is sent again, from the state before it. The gym seeds
        torch, numpy and random before each call.
        """
        raise NotImplementedError

    def reset(self) -> None:
        """Adaptation streams: return to the state after `setup`."""
        raise NotImplementedError

    def state_dict(self) -> State:
        """State that `train` and `predict` depend on: nested dicts of tensors and values.

        By default every attribute except `transient` ones, `config` and `info`
        (`clgym.attributes`). ``info.memory`` is saved by the gym.

        Raises:
            BadPlugin: An attribute cannot be saved; the message names it.
        """
        return attributes.state_of(self, self.stateless())

    def load_state_dict(self, state: State) -> None:
        """Restore `state_dict`; called after `setup`, in a fresh process."""
        attributes.restore(self, state, self.info.device, self.stateless())

    def remake(self, name: str) -> object | None:
        """Make an object that is part of a saved state and that `setup` does not make.

        An example is a teacher, which is a copy of the network from the second experience on.
        Attributes are restored in the order in which they were made, so earlier ones exist already.

        Args:
            name: Name of the attribute.
        """
        return None

    def stateless(self) -> set[str]:
        """Names of attributes that are not part of the state, including those of base classes."""
        # States are saved after an experience has ended, when its object holds no data.
        over = {name for name, value in vars(self).items() if isinstance(value, Experience)}
        return {"config", "info", "_experience", *over, *attributes.names_left_out(self)}

    def log(self, **numbers: Any) -> None:
        """Log numbers: ``self.log(entropy=0.7)``; see `Experience.log`.

        On adaptation streams they belong to the current batch.
        """
        self.info.log(numbers)

    def costs(self) -> dict[str, float]:
        """Costs that the strategy measured itself, by name, for the record's ``cost.own``.

        Names end in their unit (``fisher_seconds``). Values are sums over the run so far, so a
        strategy that reports costs keeps them in its state.
        """
        return {}

    def check_single_pass(self, epochs: int) -> None:
        """Refuse more than one epoch on a single-pass stream.

        Raises:
            BadConfig: ``epochs`` is above one and the stream is single-pass.
        """
        if self.info.single_pass and epochs != 1:
            raise BadConfig(
                expected="epochs to be 1 on a single-pass stream",
                found=str(epochs),
                fix="Remove --epochs, or use a stream that is not online",
            )
