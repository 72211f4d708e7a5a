"""What a learner is: the life cycle of a strategy, hook by hook.

The learner's process calls, in this order::

    strategy = Cls(config)            # stores, computes nothing
    strategy.setup(info)              # once: build networks on info.device
    strategy.train(experience)        # once per experience
    strategy.predict(batch)           # many times, after each experience
    strategy.state_dict()             # after each experience, and when train() offers a safe point

A strategy gets only what its `Needs` declare and its setting allows. Labels of test rows, the
data of past and future experiences and, outside task-incremental streams, the task stay with the
gym.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from clgym.data.memory import Memory
from clgym.data.source_data import SourceData
from clgym.errors import BadConfig, OutOfReach
from clgym.models.backbones import Frozen
from clgym.models.networks import Classifier

__all__ = ["Batch", "Config", "Experience", "Memory", "Needs", "Strategy", "StreamInfo"]


@dataclass(frozen=True)
class Needs:
    """What the gym must provide; the rest is out of reach, and what cannot work is refused."""

    task_ids: bool = False
    """The task id of every batch, in training and at test: task-incremental streams only."""
    total_classes: bool = False
    """The number of classes of the whole stream, before it begins."""
    past_data: bool = False
    """All training rows of earlier experiences, with the new ones (joint training)."""
    rereads: bool = False
    """The rows of an experience more than once, whatever the epochs: no single-pass streams."""
    memory: int = 0
    """Samples of past experiences that it may keep, in `StreamInfo.memory`."""
    settings: tuple[str, ...] = ("class-incremental", "task-incremental", "domain-incremental")
    """The settings that it can work in."""
    backbone: Frozen | None = None
    """A pretrained network that it builds on: its weights are looked for before any work starts,
    and the record says which they are."""
    features: bool = False
    """That backbone's features of every image, in `Batch.features`, from the cache."""
    classifier: str | None = None
    """A classifier to start from, in `StreamInfo.classifier`: its name, as `--model` takes it."""
    source_data: bool = False
    """Labelled data of the source domain at test time, in `StreamInfo.source_data`."""


@dataclass(frozen=True)
class Config:
    """Base of a strategy's options; subclass it as a frozen dataclass, defaults for all."""


@dataclass(frozen=True, eq=False)
class StreamInfo:
    """What a learner may know before the stream begins."""

    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    setting: Literal["class-incremental", "task-incremental", "domain-incremental", "adaptation"]
    device: torch.device
    seed: int
    """The learner's own seed. torch, numpy and random are seeded from it before every hook."""
    mean: tuple[float, ...]
    """Per-channel mean of the images in [0, 1], for the network's first layer; zeros if unknown."""
    std: tuple[float, ...]
    total_columns: int | None = None
    """Classes of the whole stream; None unless `Needs.total_classes` or the setting fixes it."""
    single_pass: bool = False
    """Every training row may be seen once only."""
    memory: Memory = field(default_factory=lambda: Memory(0))
    """Where samples of past experiences may be kept: at most `Needs.memory` of them."""
    batch_size: int | None = None
    """Images that arrive together, on adaptation streams."""
    classifier: Classifier | None = None
    """What `Needs.classifier` asked for, in evaluation mode; the strategy's own to change."""
    source_data: SourceData | None = None
    """What `Needs.source_data` asked for."""


@dataclass(eq=False)
class Batch:
    """Some images and what is allowed to be known of them."""

    images: Tensor
    """float32 [n, C, H, W] in [0, 1], augmented where the strategy asked for it."""
    labels: Tensor | None = None
    """int64 [n], columns of the logits; None outside training."""
    task: int | None = None
    """The task id, in task-incremental streams only."""
    pixels: Tensor | None = None
    """uint8 [n, C, H, W], the same images as they are stored, not augmented; training only."""
    features: Tensor | None = None
    """float32 [n, d], what the declared backbone makes of the images, not augmented; None where
    `Needs.features` does not ask for them, or where no gym provides them."""

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)


Augment = Callable[[Tensor, torch.Generator], Tensor]


class Experience:
    """One step of a learning stream: labelled rows that are in reach until the step is over.

    Attributes:
        index: Position in the stream, from 0.
        classes: Columns of the classes present, ascending.
        columns: Classes seen so far, these included: the width that `predict` must answer with.
        task: Task id; None unless the stream is task-incremental.
        task_columns: For each task seen so far, its columns; empty unless task-incremental.
        images: Training images handed out so far, over all epochs; a strategy with a loader of
            its own adds to it, as one does that trains on a `part`.
    """

    def __init__(
        self,
        index: int,
        pixels: Tensor,
        labels: Tensor,
        *,
        classes: tuple[int, ...],
        columns: int,
        seed: int,
        scale: float,
        task: int | None = None,
        task_columns: tuple[tuple[int, ...], ...] = (),
        single_pass: bool = False,
        report: Callable[[dict[str, Any]], None] = lambda event: None,
        safe_point: Callable[[], None] = lambda: None,
        features: Tensor | None = None,
    ) -> None:
        """Made by the gym only. ``scale`` turns stored pixels into [0, 1]."""
        self.index, self.classes, self.columns = index, classes, columns
        self.task, self.task_columns, self.single_pass = task, task_columns, single_pass
        self._seed, self._scale = seed, scale
        self._pixels: Tensor | None = pixels
        self._labels: Tensor | None = labels
        self._features = features
        self._length = len(labels)
        self._parts: list[Experience] = []
        self.images = 0
        self._report, self._safe_point = report, safe_point

    def __len__(self) -> int:
        """Count the training rows."""
        return self._length

    @property
    def pixels(self) -> Tensor:
        """All images as stored, uint8 [n, C, H, W], on the device.

        Raises:
            OutOfReach: the experience is over.
        """
        return self._held(self._pixels)

    @property
    def labels(self) -> Tensor:
        """All labels, int64 [n], on the device.

        Raises:
            OutOfReach: the experience is over.
        """
        return self._held(self._labels)

    def _held(self, data: Tensor | None) -> Tensor:
        if data is None:
            raise OutOfReach(
                expected=f"data of the present experience (experience {self.index} is over)",
                found="a read through a kept reference",
                fix="Keep samples in info.memory and declare Needs(memory=...)",
            )
        return data

    def close(self) -> None:
        """Put the data out of reach; the gym calls it when `Strategy.train` has returned."""
        self._pixels = self._labels = self._features = None
        for part in self._parts:
            part.close()

    def part(self, rows: Tensor) -> "Experience":
        """Some of the rows as an experience, for a split of a strategy's own; closed with this one.

        Args:
            rows: Their places, int64 [n], on the device.

        Raises:
            OutOfReach: the experience is over.
        """
        part = copy.copy(self)
        part._pixels, part._labels = self.pixels[rows], self.labels[rows]
        part._features = None if self._features is None else self._features[rows]
        part._length, part._parts, part.images = len(rows), [], 0
        self._parts.append(part)
        return part

    def to_float(self, pixels: Tensor) -> Tensor:
        """Stored pixels as float32 in [0, 1]."""
        return pixels.float().mul_(self._scale)

    def steps(self, size: int) -> int:
        """Batches of ``size`` in one epoch, the short last one included."""
        return -(-len(self) // size)

    def generator(self, *key: int) -> torch.Generator:
        """A CPU generator that depends on the run's seed, this experience and ``key`` alone."""
        return keyed_generator(self._seed, self.index, *key)

    def batches(
        self,
        size: int,
        *,
        epoch: int = 0,
        shuffle: bool = True,
        augment: Augment | None = None,
        start: int = 0,
    ) -> Iterator[Batch]:
        """The rows once, in batches; the last may be short.

        Order and augmentation depend on (seed, experience, epoch, step) alone, so a run that was
        killed goes on from step ``start`` with the same bits.

        Args:
            size: Rows a batch.
            epoch: Which pass this is.
            shuffle: A fresh order each epoch; else the stored order.
            augment: Called with float images [n, C, H, W] and a generator.
            start: Steps to skip.

        Raises:
            OutOfReach: a second pass over a single-pass stream.
        """
        if self.single_pass and epoch > 0:
            raise OutOfReach(
                expected="one pass over the rows of a single-pass stream",
                found=f"epoch {epoch + 1}",
                fix="Set --epochs 1, or take a stream that is not online",
            )
        order = torch.randperm(len(self), generator=self.generator(epoch)) if shuffle else None
        order = None if order is None else order.to(self.pixels.device)
        for step in range(start, self.steps(size)):
            part = slice(step * size, (step + 1) * size)
            rows = part if order is None else order[part]
            pixels, labels = self.pixels[rows], self.labels[rows]
            images = self.to_float(pixels)
            if augment is not None:
                images = augment(images, self.generator(epoch, step))
            self.images += len(labels)
            features = None if self._features is None else self._features[rows]
            yield Batch(images, labels, self.task, pixels, features)

    def report(self, **event: Any) -> None:
        """Tell the gym how training goes: ``epoch, epochs, step, steps, loss, images`` as known."""
        self._report({"experience": self.index, **event})

    def safe_point(self) -> None:
        """Offer the gym a moment at which `Strategy.state_dict` suffices to continue `train`.

        The gym saves here now and then. After a kill it loads that state and calls `train` with
        the same experience again, which must then go on where the state says.
        """
        self._safe_point()


def keyed_generator(*key: int) -> torch.Generator:
    """A CPU generator seeded by a tuple of whole numbers, alike on every machine."""
    mixed = 0xCBF29CE484222325
    for part in key:
        mixed = ((mixed ^ (part & 0xFFFFFFFFFFFFFFFF)) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 29
    return torch.Generator().manual_seed(mixed & 0x7FFFFFFFFFFFFFFF)


class Strategy:
    """A continual learner. Subclass it in ``strategies/<name>.py``; one class a file.

    The first line of the file's docstring is what ``clgym list`` shows.
    """

    Config: ClassVar[type] = Config
    """A frozen dataclass: every option typed, bounded and with one line of help under it."""

    DETERMINISTIC: ClassVar[bool] = False
    """Whether the seed changes nothing."""
    CHECK_CONFIG: ClassVar[Mapping[str, Any]] = {}
    """For `clgym check`: options that make it small and need no files."""
    CHECK_IMAGES: ClassVar[tuple[int, int, int]] = (1, 8, 8)
    """For `clgym check`: channels, height, width of the images it is checked with."""
    KNOWN_FAILURES: ClassVar[Mapping[str, str]] = {}
    """Checks that it is known to fail, with the reason; records and the board show them."""

    def __init__(self, config: Any) -> None:
        """Store ``config``; no work here."""
        self.config = config

    @property
    def needs(self) -> Needs:
        """What the gym must provide; may depend on the config (a memory's size)."""
        return Needs()

    def setup(self, info: StreamInfo) -> None:
        """Called once, before the first experience: build networks on ``info.device``.

        Extend it; keep this line's effect (``super().setup(info)``).
        """
        self.info = info

    def train(self, experience: Experience) -> None:
        """Learn one experience. Its data are out of reach once this returns."""
        raise NotImplementedError

    def predict(self, batch: Batch) -> Tensor:
        """Answer with logits, float [n, columns]: column c is class c in order of arrival.

        Called under ``torch.no_grad``. Must not change state and must not depend on which
        images share the batch (test-time methods use `adapt`).
        """
        raise NotImplementedError

    def adapt(self, batch: Batch) -> Tensor:
        """Adaptation streams: answer an unlabelled batch, then learn from it.

        Called once for every batch, with gradients enabled; the answer, logits [n, columns], counts
        as it is given. Nothing tells where one domain ends and the next begins.
        """
        raise NotImplementedError

    def reset(self) -> None:
        """Adaptation streams: forget everything since `setup`; called where the stream says so."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """All that `train` and `predict` depend on: nested dicts of tensors and plain values.

        ``info.memory`` is saved by the gym.
        """
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`; called after `setup`, in a fresh process."""
        raise NotImplementedError

    def parameter_count(self) -> int:
        """Numbers that the learner holds to predict, for the record."""
        tensors = _tensors_in(self.state_dict())
        return sum(t.numel() for t in tensors)

    def costs(self) -> dict[str, float]:
        """What the strategy measured of its own work, by name, for the record's ``cost.own``.

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
                fix="Drop --epochs, or take a stream that is not online",
            )


def _tensors_in(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    if isinstance(state, dict):
        state = list(state.values())
    return [t for v in state for t in _tensors_in(v)] if isinstance(state, (list, tuple)) else []
