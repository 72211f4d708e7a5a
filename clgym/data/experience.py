"""The labelled rows of one experience, as the gym gives them to a learner, in batches.

Authors of strategies import these names from `clgym.strategy`.
"""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from clgym.data.batch import Batch, TrainBatch
from clgym.data.generators import StepGenerators
from clgym.data.held_rows import Count, HandedOut, HeldRows, second_pass
from clgym.data.take_rows import take_rows
from clgym.data.to_device import to_device
from clgym.errors import OutOfReach

__all__ = ["Augment", "Batch", "Experience", "Log", "OnBatch", "Report", "TrainBatch"]

_PAUSE = 0.2
"""Seconds between two progress reports, since reading the loss waits for the device."""

Report = Callable[[Mapping[str, Any]], None]
"""Receives progress by name; see `Experience.report`."""

Log = Callable[[Mapping[str, Any], int, int, int], None]
"""Receives numbers by name, and the images, epoch and step at which they were logged."""


def _ignore(*_: object) -> None:
    """Do nothing: there is no gym, as in an Avalanche script, or the experience is over."""


OnBatch = Callable[[int, bool], None]
"""Receives the number of images of each batch, and whether its pass is silent (see
`Experience.batches`).
"""

Augment = Callable[[Tensor, torch.Generator], Tensor]


class Experience:
    """One experience of a learning stream: labelled rows that can be read until it ends.

    Attributes:
        index: Position in the stream, from 0.
        classes: Class indices of the classes present, ascending.
        columns: Number of classes seen so far, these included: the width of the logits that
            `predict` must return.
        task: Task id; None unless the stream is task-incremental.
        task_columns: For each task seen so far, its class indices; empty unless task-incremental.
        images: Number of training images handed out so far, over all epochs; a strategy adds those
            of its own loader, or of a `part` on which it trains.
        images_so_far: The same number with the images of every `part`, even if not added.
        epoch, step: Epoch and batch at which `batches` is, from 0; None outside of it.
        loss: Loss of the last step: a strategy sets it, and `batches` reports it.
        min_batch: Smallest number of rows in a batch: a last batch with fewer joins the one before.
            1 unless the strategy sets it, as strategies with batch normalisation do.
    """

    def __init__(
        self,
        index: int,
        pixels: Tensor,
        labels: Tensor | None,
        *,
        classes: tuple[int, ...],
        columns: int,
        seed: int,
        scale: float,
        task: int | None = None,
        task_columns: tuple[tuple[int, ...], ...] = (),
        single_pass: bool = False,
        report: Report = lambda event: None,
        log: Log = _ignore,
        safe_point: Callable[[], None] = lambda: None,
        on_batch: OnBatch = _ignore,
        features: Tensor | None = None,
        class_names: tuple[str, ...] = (),
    ) -> None:
        """Create an experience, as only the gym does; ``scale`` maps stored pixels to [0, 1].

        ``labels`` are None on pretraining streams.
        """
        self.index, self.classes, self.columns = index, classes, columns
        self.task, self.task_columns, self.single_pass = task, task_columns, single_pass
        self._generators, self._scale = StepGenerators(seed, index), scale
        self._held: HeldRows | None = HeldRows.whole(pixels, labels, features)
        self._length, self._class_names = len(pixels), class_names
        self._parts: list[Experience] = []
        self._handed_out = HandedOut(len(pixels) if single_pass else 0)
        self.images, self.min_batch = 0, 1
        self._of_all = Count()
        self.epoch: int | None = None
        self.step: int | None = None
        self.loss: Tensor | float | None = None
        self._next_report = 0.0
        self._task_of: Tensor | None = None
        self._report, self._log, self._safe_point = report, log, safe_point
        self._on_batch, self._looks = on_batch, False

    def __len__(self) -> int:
        """Count the training rows."""
        return self._length

    @property
    def images_so_far(self) -> int:
        """Training images handed out so far, over all epochs, parts and earlier sessions."""
        return max(self._of_all.images, self.images)

    def go_on_from(self, images: int) -> None:
        """Continue the count at ``images``; the gym calls it when an experience is continued."""
        self.images = self._of_all.images = images

    def count(self, images: int) -> None:
        """Count training images that a strategy's own loader handed out."""
        self.images += images
        self._of_all.images += images
        self._on_batch(images, self._looks)

    @property
    def pixels(self) -> Tensor:
        """All images as stored, uint8 [n, C, H, W], on the device.

        Raises:
            OutOfReach: The experience is over.
        """
        return self._rows.pixels

    @property
    def labels(self) -> Tensor:
        """All labels, int64 [n], on the device.

        Raises:
            OutOfReach: The experience is over, or the stream has no labels.
        """
        return self._rows.labels

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes seen so far, in words, by class index.

        Raises:
            OutOfReach: The strategy did not declare that it needs them.
        """
        if not self._class_names:
            raise OutOfReach(
                expected="names of classes for a strategy that declares the need",
                found="none: they are withheld",
                fix="Declare Needs(class_names=True); in as_template give stream= as well",
            )
        return self._class_names

    @property
    def _rows(self) -> HeldRows:
        if self._held is None:
            raise OutOfReach(
                expected=f"data of the present experience (experience {self.index} is over)",
                found="a read through a stored reference",
                fix="Keep samples in info.memory and declare Needs(memory=...)",
            )
        return self._held

    def held_data(self) -> dict[str, Tensor]:
        """Images and labels that this object refers to; none once the experience is over."""
        held = self._held
        return {} if held is None else {".pixels": held.pixels, ".labels": held.labels}

    def close(self) -> None:
        """Put the data out of reach; called by the gym when `Strategy.train` returns."""
        self._held = None
        # These refer to the learner.
        self._report = self._log = self._safe_point = self._on_batch = _ignore
        for part in self._parts:
            part.close()

    def part(self, rows: Tensor) -> "Experience":
        """Some of the rows as a separate experience, which is closed together with this one.

        Args:
            rows: Row numbers, int64 [n], on the device.

        Raises:
            OutOfReach: The experience is over.
        """
        return self._with(self._rows.part(rows))

    def _with(self, rows: HeldRows) -> "Experience":
        """This experience with other rows; closed together with this one."""
        other = copy.copy(self)
        other._held, other._length = rows, rows.length
        other._parts, other.images = [], 0
        self._parts.append(other)
        return other

    def joined(self, pixels: Tensor, labels: Tensor) -> "Experience":
        """These rows, then stored samples, as one experience, which is closed with this one.

        Args:
            pixels: Samples as they are stored, [n, C, H, W], such as those of a memory.
            labels: int64 [n].

        Raises:
            OutOfReach: The experience is over, or the stream is single-pass, whose rows are handed
                out once, unlike stored samples.
        """
        if self.single_pass:
            raise second_pass("rows joined by samples of a memory")
        return self._with(self._rows.joined(pixels, labels))

    def sampled(self, rows_of: Callable[[int], Tensor], size: int) -> "Experience":
        """The experience with other rows in every epoch; closed together with this one.

        Args:
            rows_of: Function from an epoch's number to its row numbers, int64 [m], in the order in
                which they are handed out. A row may occur more than once.
            size: Number of rows of an epoch; further rows are left out.

        Raises:
            OutOfReach: The experience is over.
        """
        return self._with(self._rows.sampled(rows_of, size))

    def to_float(self, pixels: Tensor) -> Tensor:
        """Stored pixels as float32 in [0, 1]."""
        return pixels.float().mul_(self._scale)

    def steps(self, size: int) -> int:
        """Number of batches of ``size`` rows in one epoch, the short last one included."""
        return -(-len(self) // size) - self.merges(size)

    def merges(self, size: int) -> bool:
        """Whether the last batch has fewer than `min_batch` rows, so that it joins another."""
        return len(self) > size and 0 < len(self) % size < self.min_batch

    def generator(
        self, *name: str, epoch: int | None = None, step: int | None = None
    ) -> torch.Generator:
        """A CPU generator for a strategy's own draws, with a separate stream for every name.

        Its draws depend on the run's seed, this experience and the arguments only.

        Args:
            name: Name of the draw: ``experience.generator("replay", epoch=0, step=7)``.
            epoch: Number of the epoch; None for draws that are made once per experience.
            step: Number of the batch in the epoch.

        Raises:
            BadPlugin: A number is given in place of a name, as in clgym 0.1.
        """
        return self._stream("strategy", *name, epoch=epoch, step=step)

    def _stream(
        self, *name: str, epoch: int | None = None, step: int | None = None
    ) -> torch.Generator:
        return self._generators.of(*name, epoch=epoch, step=step)

    def batches(
        self,
        size: int,
        *,
        epoch: int = 0,
        shuffle: bool = True,
        augment: Augment | None = None,
        start: int = 0,
        epochs: int | None = None,
        silent: bool = False,
    ) -> Iterator[TrainBatch]:
        """The rows once, in batches; the last may be smaller, or larger due to `min_batch`.

        Order and augmentation depend on (seed, experience, epoch, step) only, so a killed run
        continues from step ``start`` with identical results. Progress is reported here, a few times
        per second, with the `loss` that the strategy has set.

        Args:
            size: Rows per batch.
            epoch: Number of this epoch, from 0.
            shuffle: Whether each epoch has a new random order; else rows come as stored.
            augment: Function of float images [n, C, H, W] and a generator.
            start: Number of steps to skip.
            epochs: Number of all epochs, for the report.
            silent: Whether to report no progress, as in a pass without training.

        Raises:
            OutOfReach: It is a second pass over a single-pass stream, whatever ``epoch`` is.
        """
        if self.single_pass and epoch > 0:
            raise second_pass(f"epoch {epoch + 1}")
        order = self._order(epoch) if shuffle else None
        there = None if order is None else to_device(order, self.pixels.device)
        steps = self.steps(size)
        try:
            for step in range(start, steps):
                part = slice(step * size, None if step == steps - 1 else (step + 1) * size)
                self.epoch, self.step, self._looks = epoch, step, silent
                self._hand_out(part if order is None else order[part])
                yield self._batch(part if there is None else there[part], augment)
                if not silent:
                    self.progress(epoch, step + 1, steps=steps, epochs=epochs)
        finally:
            self.epoch = self.step = None

    def _batch(self, rows: slice | Tensor, augment: Augment | None) -> TrainBatch:
        pixels, labels = take_rows(self.pixels, rows), self._rows.given_labels
        images = self.to_float(pixels)
        if augment is not None:
            here = self._stream("augmentation", epoch=self.epoch, step=self.step)
            images = augment(images, here)
        self.count(len(pixels))
        held = self._rows.features
        return TrainBatch(
            images,
            None if labels is None else take_rows(labels, rows),
            task=self.task,
            task_of=None if self.task is None else self.task_of,
            pixels=pixels,
            features=None if held is None else held[rows],
        )

    @property
    def task_classes(self) -> dict[int, tuple[int, ...]]:
        """Class indices of every task so far, the present one last; empty without task ids."""
        if self.task is None:
            return {}
        found = dict(enumerate(self.task_columns))
        own = found.pop(self.task, self.classes)
        return {**found, self.task: own}

    @property
    def task_of(self) -> Tensor:
        """Task id of each class, int64 [columns]: the last that brought it; 0 without task ids."""
        if self._task_of is None:  # joint training brings rows of every task
            tasks = torch.full((self.columns,), self.task or 0)
            for task, columns in self.task_classes.items():
                tasks[list(columns)] = task
            self._task_of = to_device(tasks, self.pixels.device)
        return self._task_of

    def progress(self, epoch: int, step: int, *, steps: int, epochs: int | None = None) -> None:
        """Report how far training is, at most every 0.2 s and at the end of a pass.

        `batches` does this automatically; a strategy with its own loader calls it.

        Args:
            epoch: Number of the present epoch, from 0.
            step: Number of its steps that are done.
            steps: Number of all its steps.
            epochs: Number of all epochs; None if unknown.
        """
        if step < steps and time.perf_counter() < self._next_report:
            return
        told: dict[str, float] = {} if epochs is None else {"epochs": epochs}
        if self.loss is not None:
            told["loss"] = float(self.loss)
        self.report(epoch=epoch, step=step, steps=steps, images=self.images_so_far, **told)
        self._next_report = time.perf_counter() + _PAUSE

    def _hand_out(self, rows: slice | Tensor) -> None:
        """Record on single-pass streams that rows are given; a tensor is in the host's memory."""
        if self.single_pass:
            places = self._rows.places[rows if isinstance(rows, slice) else rows.cpu()]
            self._handed_out.note(places)

    def _order(self, epoch: int) -> Tensor:
        if (of_epoch := self._rows.of_epoch) is not None:
            return of_epoch(epoch)[: len(self)]
        return torch.randperm(len(self), generator=self._stream("order", epoch=epoch))

    def report(self, **event: Any) -> None:
        """Report progress to the gym: ``epoch, epochs, step, steps, loss, images`` as known.

        ``epoch`` counts from 0, ``step`` is the number of steps done. Other names are logged.
        """
        self._report({"experience": self.index, **event})

    def log(self, **numbers: Any) -> None:
        """Log numbers of your own: ``experience.log(gradient_norm=2.5, memory_loss=0.1)``.

        They go to the loggers of the run and to ``series.csv`` beside the record, with the present
        epoch and step; the record summarises each.

        Raises:
            BadAnswer: A value is no finite plain number, or a name cannot name a number.
        """
        at_work = [one for one in (self, *self._parts) if one.epoch is not None]
        here = at_work[0] if at_work else self
        epoch, step = (0 if n is None else n + 1 for n in (here.epoch, here.step))
        self._log(numbers, self.images_so_far, epoch, step)

    def safe_point(self) -> None:
        """Offer the gym a point at which `Strategy.state_dict` suffices to continue `train`.

        The gym saves here from time to time, and on single-pass streams it lets a copy with that
        state predict. After a kill it loads the state and calls `train` with the same experience
        again, which must then continue at the position in the state.
        """
        self._safe_point()
