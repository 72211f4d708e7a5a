"""Streams, and what they withhold.

A `Scenario` is a rule that turns a source into a `Stream`: a plan of row numbers that states which
rows arrive when, and what the learner may know. A stream is a value: hashable, small, without
images. This module does not import torch.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Le

from clgym.config import values_of
from clgym.data.fixed_transform import Transform
from clgym.data.label_noise import noisy_labels
from clgym.data.shares import rows_of_share
from clgym.errors import BadStream

if TYPE_CHECKING:
    from pathlib import Path

    from clgym.data.sources import Source
    from clgym.messages import ChosenPlugin, ExperienceOutline

__all__ = [
    "Scenario",
    "ScenarioConfig",
    "Setting",
    "Step",
    "Stream",
    "Transform",
    "kind_of",
    "measured_twice",
    "noisy_labels",
]

Setting = Literal["class-incremental", "task-incremental", "domain-incremental", "pretraining"]


@dataclass(frozen=True, eq=False)
class Step:
    """One experience: row numbers of one of the stream's sources."""

    train: np.ndarray
    """int64 row numbers in the source's training split."""
    test: np.ndarray
    """int64 row numbers of the test rows of this experience, in the split `measured_on`.

    An unchanged image belongs to one experience only. Empty if there is nothing new to test, such
    as when an experience recurs.
    """
    classes: tuple[int, ...]
    """Class indices present in the training rows, ascending."""
    valid: np.ndarray
    """int64 row numbers of the training split that are held out for tuning; may be empty."""
    source: int = 0
    """Index of the source in the stream's list of sources."""
    transform: Transform | None = None
    measured_on: Literal["test", "train"] = "test"
    """Split of the rows in ``test``: test, or train if held-out training rows are scored."""
    home: tuple[int, ...] | None = None
    """Class indices that mainly belong to this experience, ascending: those of its test rows, if
    there are training rows of other classes, too. None means all of ``classes``.
    """
    labels: np.ndarray | None = None
    """int64 class index that the learner is given for each training row, one of ``classes``; None
    means the true ones. `noisy_labels` makes wrong ones; scored rows keep their true labels."""

    def __post_init__(self) -> None:
        """Check the labels.

        Raises:
            BadStream: The number of labels differs from that of rows, or labels are of other
                classes.
        """
        if self.labels is None:
            return
        others = sorted(set(np.unique(self.labels).tolist()) - set(self.classes))
        if self.labels.shape != self.train.shape or others or self.labels.dtype != np.int64:
            raise BadStream(
                expected=f"{len(self.train)} labels of type int64, each one of {self.classes}",
                found=f"{self.labels.dtype} {self.labels.shape}, other classes {others}",
                fix="Give one class index of the experience for each training row",
            )


def check_part(stream: Any, start: int, stop: int, steps: str) -> None:
    """Check that a stream has a given part.

    Raises:
        BadStream: The part is empty, or reaches beyond an end.
    """
    if not 0 <= start < stop <= len(stream):
        raise BadStream(
            expected=f"a part of the {len(stream)} {steps} of {stream.name}",
            found=f"{start} to {stop}",
            fix="Give the first one, and an end (exclusive) after it",
        )


@dataclass(frozen=True, eq=False)
class Stream:
    """A plan: rows per experience, the index of each class, and what may be known.

    Two streams are equal if their plans are.
    """

    name: str
    setting: Setting
    sources: tuple[str, ...]
    """Source names, as `load_source` accepts them."""
    fingerprints: tuple[str, ...]
    """Fingerprint of each source, in order."""
    image_shape: tuple[int, int, int]
    """Channels, height and width of the images that the learner receives."""
    columns: tuple[tuple[int, ...], ...]
    """Class index of each class of each source, by class number; -1 where unused."""
    steps: tuple[Step, ...]
    class_order: tuple[str, ...]
    """Class names by class index."""
    single_pass: bool = False
    compete: Literal["own", "seen"] = "own"
    """Classes that compete in a prediction if the task is given: those of the task (own), or all
    classes seen."""
    anytime: int = 0
    """Number of moments, equally spaced by training images, at which all classes that have arrived
    are tested; not part of the digest, since learning does not depend on it.
    """
    preset: Mapping[str, object] = field(default_factory=dict[str, object])
    """Options of the scenario; strategies use ``network``, ``memory_size`` and similar ones as
    defaults. Not part of the digest.
    """

    def __len__(self) -> int:
        """Count the experiences."""
        return len(self.steps)

    def __eq__(self, other: object) -> bool:
        """Whether both plans are equal."""
        return isinstance(other, Stream) and self.digest == other.digest

    def __hash__(self) -> int:
        """Hash the plan."""
        return hash(self.digest)

    @property
    def digest(self) -> str:
        """SHA-256 of the whole plan, hex."""
        state = hashlib.sha256()
        facts = [self.setting, self.fingerprints, self.image_shape, self.columns, self.single_pass]
        facts += [self.compete] if self.compete != "own" else []
        state.update(json.dumps(facts).encode())
        for step in self.steps:
            facts = [step.source, step.classes, step.transform and step.transform.facts]
            facts += ["train"] if step.measured_on == "train" else []
            facts += [step.home] if step.home is not None else []
            state.update(json.dumps(facts).encode())
            labels = () if step.labels is None else (step.labels,)
            for rows in (step.train, step.valid, step.test, *labels):
                state.update(len(rows).to_bytes(8, "little") + rows.astype("<i8").tobytes())
        return state.hexdigest()

    def outline(self) -> "list[ExperienceOutline]":
        """Content of each experience, for ``--dry-run`` and progress."""
        # imported here, since using a stream does not need pydantic
        from clgym.messages import ExperienceOutline

        return [
            ExperienceOutline(classes=len(s.classes), train=len(s.train), test=len(s.test))
            for s in self.steps
        ]

    @property
    def gives_task_ids(self) -> bool:
        """Whether batches carry their task id."""
        return self.setting == "task-incremental"

    def columns_after(self, index: int) -> int:
        """Number of classes seen after experience ``index``."""
        return 1 + max(c for step in self.steps[: index + 1] for c in step.classes)

    def measured_after(self, index: int) -> list[int]:
        """Indices of the experiences that are scored after experience ``index``.

        These are the experiences seen; in domain-incremental streams also the future ones, since
        their classes are known from the start.
        """
        if self.setting == "domain-incremental":
            seen = self.columns_after(index)
            known = [j for j, s in enumerate(self.steps) if max(s.classes, default=0) < seen]
        else:
            known = list(range(index + 1))
        return [j for j in known if len(self.steps[j].test)]

    def training_labels(self, step: Step, source: "Source") -> np.ndarray:
        """Class index that the learner is given for each training row, int64 [n].

        Args:
            step: An experience of the stream.
            source: The source of its rows.
        """
        if step.labels is not None:
            return step.labels
        return np.array(self.columns[step.source])[source.train.labels[step.train]]

    def on_validation(self) -> "Stream":
        """The same stream, scored on its held-out training rows instead of its test rows.

        Raises:
            BadStream: An experience has no held-out rows.
        """
        if any(len(step.test) and not len(step.valid) for step in self.steps):
            raise BadStream(
                expected="held-out training rows to score every experience",
                found=f"an experience of {self.name} without any",
                fix="Give --validation a fraction above 0, such as 0.1",
            )
        steps = tuple(replace(s, test=s.valid, measured_on="train") for s in self.steps)
        return replace(self, steps=steps)

    def part(self, start: int, stop: int) -> "Stream":
        """Return experiences ``start`` to ``stop`` (exclusive) as a separate stream.

        Classes that occur in none of them are removed; class indices are renumbered from 0.

        Raises:
            BadStream: The stream has no such experiences.
        """
        check_part(self, start, stop, "experiences")
        kept = sorted({c for step in self.steps[start:stop] for c in step.classes})
        new = {old: number for number, old in enumerate(kept)}
        steps = (
            replace(
                s,
                classes=tuple(new[c] for c in s.classes),
                home=s.home and tuple(sorted(new[c] for c in s.home)),
                labels=None if s.labels is None else _renumbered(s.labels, new),
            )
            for s in self.steps[start:stop]
        )
        return replace(
            self,
            steps=tuple(steps),
            columns=tuple(tuple(new.get(c, -1) for c in columns) for columns in self.columns),
            class_order=tuple(self.class_order[c] for c in kept),
        )

    def benchmark(self, data_root: "Path | None" = None) -> Any:
        """Return the same stream as an ordinary Avalanche benchmark, for any Avalanche script.

        It contains images and labels of both splits: nothing is withheld from such a script.
        """
        # The only import of a higher package, for convenience: `clgym.avalanche.benchmark` does the
        # work.
        from clgym.avalanche import benchmark

        return benchmark(self, data_root)


def _renumbered(labels: np.ndarray, new: Mapping[int, int]) -> np.ndarray:
    return np.array([new[label] for label in labels.tolist()], dtype=np.int64)


Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
"""Seed of NumPy's legacy generator."""


@dataclass(frozen=True)
class ScenarioConfig:
    """Options that every scenario has."""

    source: str
    """Source of the images: a name of `clgym list sources`, folder:PATH, folder:PATH@SIDE or
    npz:PATH."""
    validation: Annotated[float, Ge(0), Le(0.5)] = 0.0
    """Fraction of each class's training rows that is held out for tuning."""
    network: str = "mlp"
    """Network that strategies train from scratch: mlp, slim-resnet18, resnet18, resnet32,
    resnet50."""
    memory_size: Annotated[int, Ge(1)] = 200
    """Number of samples that a replay strategy may keep on this stream."""
    resize: Annotated[int, Ge(1)] | None = None
    """Side in pixels to which images are resized (bilinear) before the learner receives them."""


class Scenario:
    """A rule that turns sources into a stream. Subclass it in ``scenarios/<kind>.py``.

    The module may hold ``PRESETS``, a literal dict: versioned public names and the options that
    make them.
    """

    Config: ClassVar[type] = ScenarioConfig
    data_root: "Path | None" = None
    """Data root; None means ``CLGYM_DATA``, else the user's data folder. The gym sets it."""

    DETERMINISTIC: ClassVar[bool] = False
    """Whether the stream is the same for every order seed."""
    RECURRING: ClassVar[bool] = False
    """Whether training images may recur unchanged in a later experience."""
    CHECK_CONFIG: ClassVar[Mapping[str, Any]] = {}
    """Options for `clgym check` that suit six classes of twenty images."""
    KNOWN_FAILURES: ClassVar[Mapping[str, str]] = {}
    """Checks that this scenario is known to fail, with the reason."""

    def __init__(self, config: Any, name: str) -> None:
        """Store the options and the public name."""
        self.config, self.name = config, name

    def source_names(self) -> Sequence[str]:
        """Names of the sources to load, as `load_source` accepts them."""
        return [self.config.source]

    def stream(self, sources: Sequence["Source"], order_seed: int | None) -> Stream:
        """Make the stream. ``order_seed`` None means the preset's own order.

        Raises:
            BadStream: The options do not fit the source.
        """
        raise NotImplementedError

    def describe(self) -> "ChosenPlugin":
        """Name and options, in the form of the record."""
        # imported here, since using a stream does not need pydantic
        from clgym.messages import ChosenPlugin

        return ChosenPlugin(self.name, values_of(self.config))


def kind_of(stream: Any) -> str:
    """The kind of a stream: a `Setting`, or the kind of another class of streams.

    The return type of `Scenario.stream` is `Stream` for all kinds, although those of
    `clgym.streams` do not derive from it: they have all methods that a run needs, and are defined
    in a higher package.
    """
    return stream.setting


def measured_twice(steps: Sequence[Step]) -> tuple[int, int] | None:
    """The first experience with test rows that an earlier one has, too, and their number.

    Rows with different transforms count as different images. None if there is no such experience.
    """
    seen: dict[tuple[object, ...], np.ndarray] = {}
    for index, step in enumerate(steps):
        look = (step.source, step.measured_on, step.transform)
        known = seen.get(look, step.test[:0])
        if count := int(np.isin(step.test, known).sum()):
            return index, count
        seen[look] = np.concatenate([known, step.test])
    return None


def split_validation(
    rows: np.ndarray, labels: np.ndarray, share: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out ``share`` of every class: (train rows, validation rows), both in row order.

    Args:
        rows: int64 [n].
        labels: int64 [n], the class of each row.
        share: Fraction in [0, 0.5]; at least one row of each class stays in training.
        seed: Seed of the legacy NumPy generator.
    """
    if share == 0:
        return rows, rows[:0]
    generator = np.random.RandomState(seed)
    held = np.zeros(len(rows), dtype=bool)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        held[generator.permutation(places)[: rows_of_share(share, len(places))]] = True
    return rows[~held], rows[held]


def class_permutation(n_classes: int, seed: int | None) -> list[int]:
    """The class order of a seed: NumPy's legacy permutation; None is the natural order."""
    if seed is None:
        return list(range(n_classes))
    if not 0 <= seed < 2**32:
        raise BadStream(
            expected="an order seed from 0 to 4294967295",
            found=str(seed),
            fix="Give --order-seed another number",
        )
    return np.random.RandomState(seed).permutation(n_classes).tolist()
