"""The life cycle of a strategy, hook by hook.

The learner's process calls, in this order::

    strategy = Cls(config)            # stores, computes nothing
    strategy.setup(info)              # once: build networks on info.device
    strategy.train(experience)        # once per experience
    strategy.predict(batch)           # many times, after each experience
    strategy.represent(batch)         # on pretraining streams, in the place of predict
    strategy.forget(request)          # on streams of forgetting, after the last experience
    strategy.state_dict()             # after each experience, and when train() offers a safe point

A strategy gets only what its `Needs` declare and its scenario type allows. Labels of test rows, the
data of past and future experiences and, outside task-incremental streams, the task stay with the
gym.
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
from clgym.messages import Fit, Frozen, Needs
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
    """Base of a strategy's options; subclass it as a frozen dataclass, defaults for all."""

    @classmethod
    def dependent_defaults(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Defaults that differ from the fields' own where other options are as in ``given``.

        Args:
            given: The options that the user gave, not checked yet.

        Returns:
            Option to default; the record names them like any other.
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
    """Seed of the learner; torch, numpy and random are seeded from it before every hook. Draws
    that must not depend on those before them come from `Strategy.rng`, or outside of an
    experience from ``torch_generator(info.seed, "strategy", "what is drawn", step=...)``."""
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
    """Images per batch on adaptation streams."""
    class_names: tuple[str, ...] | None = None
    """Adaptation streams: names of the classes in words, by class index; None unless
    `Needs.class_names`. On learning streams `Experience.class_names` has those seen."""
    classifier: Classifier | None = None
    """Classifier requested by `Needs.classifier`, in evaluation mode; the strategy may change
    it."""
    source_data: SourceData | None = None
    """Source data requested by `Needs.source_data`."""
    log: Callable[[Mapping[str, Any]], None] = lambda numbers: None
    """Takes in what `Strategy.log` logs."""


# What a strategy's options are; `Any` where a class only says ``Config = ...``.
C = TypeVar("C", bound=Config, default=Any)


_NoOptions = Config


class Strategy(Generic[C]):
    """Base of all continual learners. Subclass it in ``strategies/<name>.py``; one class per file.

    The first line of the file's docstring is what ``clgym list`` shows. ``class Mine(Strategy[
    MineConfig])`` sets `Config` and gives ``self.config`` its type.
    """

    Config: ClassVar[type] = _NoOptions
    """A frozen dataclass: every option typed, bounded and with one line of help under it. The type
    argument of the base class sets it."""

    DETERMINISTIC: ClassVar[bool] = False
    """Whether results are the same for every seed."""
    # A dict, as plugins annotate it: a Mapping would refuse them.
    CHECK_CONFIG: ClassVar[dict[str, Json]] = {}
    """Options for `clgym check` that make the strategy small and need no files."""
    CHECK_IMAGES: ClassVar[tuple[int, int, int]] = (1, 8, 8)
    """Channels, height and width of the images for `clgym check`."""
    transient: ClassVar[tuple[str, ...]] = ()
    """Names of attributes that are no state: caches, and what `setup` makes and nothing changes."""
    KNOWN_FAILURES: ClassVar[Mapping[str, str]] = {}
    """Checks that the strategy is known to fail, with the reason, which records and the board
    show."""
    confidence_scale: float = 1.0
    """Adaptation streams: factor of its logits in the softmax that gives the confidence of an
    answer; 1/2 where it answers with the sum of two networks' logits."""

    _experience: Experience | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Take the config from the base's type argument, and let `train` know its experience.

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
        """Store ``config``; no work here."""
        self.config: C = config

    @property
    def needs(self) -> Needs:
        """What the gym must provide; may depend on the config, such as the size of a memory."""
        return Needs()

    def setup(self, info: StreamInfo) -> None:
        """Called once, before the first experience: build networks on ``info.device``.

        Extend it; keep this line's effect (``super().setup(info)``).
        """
        self.info = info

    def train(self, experience: Experience) -> None:
        """Learn one experience. Its data cannot be read after this method returns."""
        raise NotImplementedError

    @property
    def experience(self) -> Experience:
        """The experience that `train` is learning.

        Raises:
            BadPlugin: none is under way.
        """
        if self._experience is None:
            raise BadPlugin(
                expected="a call while an experience is learned",
                found="none under way",
                fix="Read self.experience and self.rng in train, and in what it calls",
            )
        return self._experience

    def rng(self, *name: str) -> torch.Generator:
        """A CPU generator for one draw: a stream that no other name shares.

        What it draws depends on the run's seed, the experience, the epoch and the step of its
        `Experience.batches`, and the name, on nothing else: ``torch.rand(n,
        generator=self.rng("mask"))``.

        Args:
            name: What is drawn, in words.

        Raises:
            BadPlugin: no experience is under way, or numbers in the place of a name.
        """
        here = self.experience
        return here.generator(*name, epoch=here.epoch, step=here.step)

    def predict(self, batch: Batch) -> Tensor:
        """Return logits, float [n, columns]; column c is the class of index c, in order of arrival.

        Called under ``torch.no_grad``. Must not change state and must not depend on which
        images share the batch (test-time methods use `adapt`).
        """
        raise NotImplementedError

    def represent(self, batch: Batch) -> Tensor:
        """Pretraining streams: features of images, float [n, width], on which the gym fits probes.

        Called in the place of `predict`, and under the same rules: under ``torch.no_grad``, without
        a change of state, each image by itself. The width is the strategy's choice, the same for
        all images. Among them are training images of all experiences so far; the strategy does not
        learn which they are. Such streams bring no labels: to read `TrainBatch.labels` or
        `Experience.labels` is refused, and there are no classes (``experience.classes`` is empty).
        """
        raise NotImplementedError

    def predict_by_head(self, batch: Batch) -> Mapping[str, Tensor]:
        """Answers of several heads to one batch: logits like those of `predict`, by head.

        For methods that are reported with more than one, such as a linear head and the nearest mean
        of exemplars. The record has the accuracy of each beside that of `predict`, which counts.
        Called where a subclass overrides it, as `predict` is, and under the same rules.
        """
        return {}

    def adapt(self, batch: Batch) -> Tensor:
        """Adaptation streams: predict an unlabelled batch, then learn from it.

        Called once for every batch, with gradients enabled; the returned logits [n, columns] are
        scored. The strategy does not know where one domain ends and the next begins.
        """
        raise NotImplementedError

    def forget(self, request: ForgetRequest) -> None:
        """Forget some training rows: streams of forgetting, once per request, after all learning.

        A class that overrides this method runs on such streams where it learns class-incremental
        ones. It gets the rows to be forgotten (``request.forgotten``) and, with
        ``Needs(retained_data=True)``, those that remain (``request.retained``): both until it
        returns. Samples of the request in ``info.memory`` are removed before it is called. Whatever
        it needs beyond that, such as importances, it has stored while it learned. `predict` goes on
        to answer for all classes, and a request that is cut short is sent again from the state
        before it. The gym seeds torch, numpy and random before each call.
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
            BadPlugin: an attribute that cannot be saved; the message names it.
        """
        return attributes.state_of(self, self.stateless())

    def load_state_dict(self, state: State) -> None:
        """Restore `state_dict`; called after `setup`, in a fresh process."""
        attributes.restore(self, state, self.info.device, self.stateless())

    def remake(self, name: str) -> object | None:
        """Make a part that a saved state fills and that `setup` does not make.

        Such as a teacher, which is a copy of the network from the second experience on. Attributes
        are restored in the order in which they were made, so those before it are there.

        Args:
            name: Its attribute.
        """
        return None

    def stateless(self) -> set[str]:
        """Names of the attributes that are no state, those of all base classes too."""
        # An experience is over when something is saved; what is left of it holds no data.
        over = {name for name, value in vars(self).items() if isinstance(value, Experience)}
        return {"config", "info", "_experience", *over, *attributes.names_left_out(self)}

    def log(self, **numbers: Any) -> None:
        """Log numbers of your own: ``self.log(entropy=0.7)``; see `Experience.log`.

        On adaptation streams they belong to the present batch.
        """
        self.info.log(numbers)

    def costs(self) -> dict[str, float]:
        """Costs that the strategy measured itself, by name, for the record's ``cost.own``.

        Names end in their unit (``fisher_seconds``); sums over the run so far, so a strategy that
        has any keeps them in its state.
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
