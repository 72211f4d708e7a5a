"""Checks of a scenario: its streams are consistent, repeatable and free of leaks."""

import contextlib
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from clgym import config as configs
from clgym.check.bounds import check_bounds, check_words
from clgym.check.report import Check, Failed, Skipped
from clgym.check.tiny import CLASSES, Tiny
from clgym.config import Field
from clgym.data.images import Images
from clgym.data.sources import Source, load_source
from clgym.errors import BadPlugin, ClgymError
from clgym.scenario import Scenario, Setting, Stream, measured_twice

__all__ = ["ScenarioSubject", "scenario_checks"]

SETTINGS = (*get_args(Setting), "adaptation", "learn-then-shift", "deletion")


class ScenarioSubject:
    """A scenario under check, with tiny sources in place of those that its options name.

    Attributes:
        cls: The scenario's class.
        name: Name of the scenario in messages.
        summary: First line of its file's docstring.
        presets: Options of its file's presets, by name.
        path: Its file; None for a class without one.
    """

    def __init__(
        self,
        cls: type[Scenario],
        name: str,
        summary: str,
        presets: Mapping[str, Mapping[str, object]],
        path: Path | None,
        folder: Path,
    ) -> None:
        """Read the options; files go to ``folder``."""
        self.cls, self.name, self.summary = cls, name, summary
        self.presets, self.path = presets, path
        self._tiny = Tiny(folder, (1, 8, 8))
        self.fields: list[Field] = configs.fields_of(cls.Config)

    def stream(
        self,
        order_seed: int | None = None,
        train: Sequence[int] = (20,) * CLASSES,
        **options: Any,
    ) -> Stream:
        """Make a stream from tiny digits, where CHECK_CONFIG and ``options`` override the defaults.

        Args:
            order_seed: Seed of the class order.
            train: Number of training images of each class.
            **options: Options of the scenario.
        """
        given = {"source": "tiny", **self.cls.CHECK_CONFIG, **options}
        scenario = self.cls(configs.build(self.cls.Config, given, self.name), self.name)
        count = len(scenario.source_names())
        return scenario.stream([self.source(train)] * count, order_seed)

    def source(self, train: Sequence[int] = (20,) * CLASSES) -> Source:
        """The tiny source from which `stream` makes streams."""
        return load_source(self._tiny.name(train, test=10))

    @cached_property
    def plain(self) -> Stream:
        """The stream that the default options give."""
        return self.stream()


def scenario_checks() -> list[Check]:
    """The checks of a scenario, in order."""
    return [
        Check(described),
        Check(config_bounds),
        Check(presets_fit),
        Check(cuts, vital=True),
        Check(rows_in_range),
        Check(test_rows_once),
        Check(train_rows_once),
        Check(transforms_repeat),
        Check(columns_in_order),
        Check(classes_match_labels),
        Check(held_out_rows),
        Check(same_plan),
        Check(other_order),
        Check(pickling),
        Check(one_image_class),
        Check(odd_options),
        Check(no_torch),
    ]


def described(subject: ScenarioSubject) -> str:
    """The file has a first line for `clgym list`, and every option a line of help."""
    return check_words(subject.summary, subject.fields)


def config_bounds(subject: ScenarioSubject) -> str:
    """Numbers have bounds, and values outside are refused."""
    return check_bounds(subject.cls.Config, subject.fields, subject.name)


def _learned(stream: Stream) -> Stream:
    """Return the stream, if it has training rows to check."""
    if stream.setting == "adaptation":
        raise Skipped("an adaptation stream has no training rows")
    return stream


def presets_fit(subject: ScenarioSubject) -> str:
    """Every preset sets options that exist, to values that they accept."""
    for preset, options in subject.presets.items():
        try:
            configs.build(subject.cls.Config, options, subject.name)
        except ClgymError as error:
            raise Failed(f"preset {preset}: {error.found}", f"It needs {error.expected}") from error
    return ", ".join(subject.presets) or "no presets"


def cuts(subject: ScenarioSubject) -> str:
    """The default options give a stream from six classes of twenty images."""
    stream = subject.plain
    if stream.setting not in SETTINGS:
        raise Failed(f"setting {stream.setting!r}", f"Use one of {', '.join(SETTINGS)}")
    if not len(stream):
        raise Failed("a stream without experiences", "Make at least one")
    return f"{len(stream)} experiences, {stream.setting}"


def rows_in_range(subject: ScenarioSubject) -> str:
    """Row numbers are int64, exist in the source and occur once per experience."""
    source, counted = subject.source(), 0
    for index, step in enumerate(_learned(subject.plain).steps):
        for what, rows, split in (
            ("train", step.train, source.train),
            ("valid", step.valid, source.train),
            ("test", step.test, source.test),
        ):
            if rows.dtype != np.int64:
                raise Failed(f"{what} rows of type {rows.dtype}", "Make them int64")
            if len(np.unique(rows)) != len(rows):
                raise Failed(f"a {what} row twice in experience {index}", "Name a row once")
            if len(rows) and not 0 <= rows.min() <= rows.max() < len(split.labels):
                raise Failed(
                    f"{what} row {rows.max()} of {len(split.labels)} in experience {index}",
                    f"Number the rows of source.{'test' if what == 'test' else 'train'}",
                )
            counted += len(rows)
    return f"{counted} rows"


def test_rows_once(subject: ScenarioSubject) -> str:
    """A test row is scored in one experience only, unless a transform changes its image."""
    stream = _learned(subject.plain)
    if twice := measured_twice(stream.steps):
        raise Failed(
            f"{twice[1]} test rows in experience {twice[0]} and an earlier one",
            "Score each test row in the experience that it belongs to; leave `test` empty where "
            "an experience recurs",
        )
    count = sum(len(step.test) for step in stream.steps)
    if not count:
        raise Failed("no test rows at all", "Give the steps test rows")
    return f"{count} test rows, each in one experience"


def train_rows_once(subject: ScenarioSubject) -> str:
    """No training image comes in two experiences unchanged, unless ``RECURRING`` says so."""
    looks: dict[Any, np.ndarray] = {}
    again = 0
    for index, step in enumerate(_learned(subject.plain).steps):
        known = looks.get((step.source, step.transform), step.train[:0])
        twice = np.isin(step.train, known)
        if twice.any() and not subject.cls.RECURRING:
            raise Failed(
                f"training row {step.train[twice][0]} in experience {index} and an earlier one",
                "Split a class's rows among its experiences, or set RECURRING = True",
            )
        again += int(twice.sum())
        looks[step.source, step.transform] = np.union1d(known, step.train)
    if subject.cls.RECURRING and not again:
        raise Failed("RECURRING = True, but no training row recurs", "Remove the line")
    different = sum(map(len, looks.values()))
    return f"{different} training rows, {again} recurrences" if again else f"{different} rows"


def transforms_repeat(subject: ScenarioSubject) -> str:
    """Every transform keeps the shape of images and gives the same result each time."""
    found = {step.transform for step in getattr(subject.plain, "steps", ())} - {None}
    if not found:
        raise Skipped("no experience transforms its images")
    source = subject.source()
    images = Images(Path(source.train.path), None, torch.device("cpu"), white=source.max_value)
    rows = np.arange(4)
    for transform in filter(None, found):
        try:
            together = images.gather(rows, transform.message)
        except BadPlugin as error:
            raise Failed(
                f"{transform.kind}: {error.found}", f"It needs {error.expected}"
            ) from error
        alone = torch.cat([images.gather(rows[i : i + 1], transform.message) for i in rows])
        if not torch.equal(together, alone):
            raise Failed(
                f"{transform.kind} gives other pixels in another batch",
                "Compute each image independently of the others",
            )
    return f"{len(found)} transformations"


def columns_in_order(subject: ScenarioSubject) -> str:
    """Class indices follow the order of arrival: after every experience from 0 without a gap."""
    for seed in (None, 1):
        stream = _learned(subject.stream(seed))
        seen: set[int] = set()
        for index, step in enumerate(stream.steps):
            if list(step.classes) != sorted(set(step.classes)):
                raise Failed(
                    f"classes {step.classes} in experience {index}", "Name each once, ascending"
                )
            seen |= set(step.classes)
            if seen != set(range(len(seen))):
                raise Failed(
                    f"columns {sorted(seen)} after experience {index}",
                    "Number classes by arrival: columns[source][class] = position in the order",
                )
        if len(stream.class_order) < len(seen):
            raise Failed(
                f"{len(stream.class_order)} names for {len(seen)} columns",
                "Name every column in class_order",
            )
    return "numbered by arrival, both in the natural order and in another one"


def classes_match_labels(subject: ScenarioSubject) -> str:
    """The classes of a step are those of its rows' labels."""
    stream, source = _learned(subject.stream(1)), subject.source()
    for index, step in enumerate(stream.steps):
        columns = np.array(stream.columns[step.source])
        present = tuple(np.unique(columns[source.train.labels[step.train]]).tolist())
        if present != step.classes:
            raise Failed(
                f"experience {index} names classes {step.classes}, its rows hold {present}",
                "Take step.classes from the training rows' labels",
            )
        for column in present:
            name = source.classes[int(np.flatnonzero(columns == column)[0])]
            if not stream.class_order[column].endswith(name):  # one of several sources: 0:NAME
                raise Failed(
                    f"column {column} is {name}, but class_order calls it "
                    f"{stream.class_order[column]}",
                    "Let class_order follow the columns",
                )
        tested = set(columns[source.test.labels[step.test]].tolist())
        if -1 in tested or (tested and max(tested) >= stream.columns_after(index)):
            raise Failed(
                f"experience {index} is scored on classes that have not arrived yet",
                "Use test rows of classes that have been seen",
            )
    return "classes, names and test rows agree with the labels"


def held_out_rows(subject: ScenarioSubject) -> str:
    """Rows held out for tuning are training rows that no experience trains on."""
    if "validation" not in {f.name for f in subject.fields}:
        raise Skipped("it has no option `validation`")
    stream = subject.stream(validation=0.25)
    held = np.concatenate([step.valid for step in stream.steps])
    trained = np.concatenate([step.train for step in stream.steps])
    if not len(held):
        raise Failed("no row held out with validation=0.25", "Use split_validation")
    if np.isin(held, trained).any():
        raise Failed("rows that are both held out and trained on", "Use split_validation")
    return f"{len(np.unique(held))} of {len(np.unique(held)) + len(np.unique(trained))} rows"


def same_plan(subject: ScenarioSubject) -> str:
    """The same options give the same plan, independently of the global generators."""
    np.random.seed(1)
    before: Any = np.random.get_state(legacy=True)
    first = subject.stream(3)
    after: Any = np.random.get_state(legacy=True)
    if not np.array_equal(before[1], after[1]):
        raise Failed("draws from NumPy's global generator", "Use np.random.RandomState(seed)")
    np.random.seed(2)
    if subject.stream(3).digest != first.digest:
        raise Failed("another plan with the same options and seed", "Draw from a seeded generator")
    return f"plan {first.digest[:12]}"


def other_order(subject: ScenarioSubject) -> str:
    """Another order seed gives another plan; with ``DETERMINISTIC = True`` the same one."""
    equal = subject.stream(1).digest == subject.stream(2).digest
    if equal and not subject.cls.DETERMINISTIC:
        raise Failed(
            "the same plan with order seeds 1 and 2",
            "Use order_seed; if there is nothing to order, set DETERMINISTIC = True",
        )
    if not equal and subject.cls.DETERMINISTIC:
        raise Failed("another plan with another seed", "Remove DETERMINISTIC = True")
    return "as DETERMINISTIC declares" if equal else "another plan with another seed"


def pickling(subject: ScenarioSubject) -> str:
    """A stream is a value: it can be pickled, and is compared and hashed by its plan."""
    stream = subject.plain
    copy = pickle.loads(pickle.dumps(stream))  # nosec B301 # its own bytes
    if copy != stream or hash(copy) != hash(stream):
        raise Failed("a stream that pickling changes", "Use only the fields of Stream and Step")
    return f"{len(pickle.dumps(stream)):,} bytes"


def one_image_class(subject: ScenarioSubject) -> str:
    """A class with one training image is accepted, or refused with a named error."""
    with _named_errors("a class with one training image"):
        stream = subject.stream(train=(1, 20, 20, 1, 20, 20))
        return f"{len(stream)} experiences"
    return "refused with a named error"


def odd_options(subject: ScenarioSubject) -> str:
    """Options at their limits give a stream or a named error, never another exception."""
    tried = 0
    for field in subject.fields:
        for value in [bound for bound in (field.ge, field.le) if bound is not None]:
            if isinstance(value, float) and abs(value) > 1e4:
                continue  # a limit that only keeps the seeds of generators in range
            # Any: an option's value, whatever its kind.
            options: dict[str, Any] = {field.name: [int(value)] if field.kind == "ints" else value}
            with _named_errors(f"{field.name}={value}"):
                subject.stream(**options)
            tried += 1
    return f"{tried} limits tried"


@contextlib.contextmanager
def _named_errors(what: str) -> Iterator[None]:
    try:
        yield
    except ClgymError:
        pass
    except Exception as error:
        raise Failed(
            f"{type(error).__name__}: {error} with {what}",
            "Raise BadStream with expected, found and fix",
        ) from error


def no_torch(subject: ScenarioSubject) -> str:
    """The file does not import torch: the gym imports it, and must start fast."""
    if subject.path is None:
        raise Skipped("it has no file")
    code = (
        "import sys; from pathlib import Path; from clgym import registry; "
        "from clgym.scenario import Scenario; "
        f"registry.load_class(registry.find('scenarios', {subject.name!r}, "
        f"[Path(p) for p in sys.argv[1:]]), Scenario); sys.exit('torch' in sys.modules)"
    )
    built_in = subject.cls.__module__.startswith("clgym.scenarios.")
    plugins = [] if built_in else [str(subject.path)]
    done = subprocess.run([sys.executable, "-c", code, *plugins], capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["importing it imports torch"]
        raise Failed(reason[0], "Import numpy only; networks belong in strategies")
    return "imported without torch"
