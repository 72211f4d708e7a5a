"""Content of a leaderboards folder: entries to rank, and excluded folders with the reason.

A study's folder (with a ledger) gives an entry for each complete evaluation; its tuning runs are no
results and give none. Every other record is an untuned run (options chosen by hand); runs that
differ only in their seeds form one entry.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clgym.board.reading.source_files import unknown_code
from clgym.errors import BadRecord
from clgym.files import canonical_json
from clgym.gym.request import FROM_PRESET
from clgym.results.grouping import Seeds, seeds_of
from clgym.results.record import Record, Result
from clgym.results.stored import StoredRun
from clgym.text import Json

__all__ = [
    "BY_AUTHOR",
    "BY_HAND",
    "Board",
    "BoardEntry",
    "Exclusion",
    "Score",
    "StudyPlace",
    "file_of",
    "options_text",
    "place_of",
    "run_flags",
    "subfolders",
]

BY_HAND = "untuned (hand-set hyper-parameters)"
"""Mode of runs without a certificate."""
BY_AUTHOR = "hand-set (not the strategy's defaults)"
"""Mode of evaluations without tuning whose author set options: anybody who has seen the evaluation
side could have chosen the values, so they are not ranked beside those that were tuned blindly."""

Matrix = list[list[float | None]]


@dataclass(frozen=True)
class Score:
    """One run of an entry, with recomputed numbers."""

    run: StoredRun
    place: str
    """Folder of the run below the leaderboards folder, with slashes."""

    @property
    def record(self) -> Record:
        """The run's record."""
        return self.run.record

    @property
    def seed(self) -> int:
        """The learner's seed."""
        return self.run.result.seed

    @property
    def order_seed(self) -> int | None:
        """The class order's seed; None for the preset's order."""
        return self.run.result.order_seed

    @property
    def key(self) -> Seeds:
        """Identity of the run within its entry; -1 stands for the preset's class order."""
        return seeds_of(self.run.result)

    @property
    def primary(self) -> float:
        """Value that tables rank by, larger is better: the last accuracy of the run."""
        return self.record.result.last_accuracy


@dataclass(frozen=True)
class Missing:
    """A run that is missing from its entry."""

    seed: int
    why: str


@dataclass(frozen=True)
class Tuning:
    """Facts about how the hyper-parameters of an evaluation were chosen."""

    mode: str
    pair: str
    score: float | None
    """Tuning score of the chosen hyper-parameters."""
    trials: tuple[float | None, ...]
    """Scores of the trials, in order; None for a failed trial."""
    seconds: float
    certificate: dict[str, object]
    """Facts of the certificate to show, by name."""


@dataclass(frozen=True)
class StudyPlace:
    """Place of an evaluation in a set of studies."""

    studies: str
    """Identity of the set of studies and of the evaluation's number within each study."""
    number: int
    """Number of the study, from 1."""
    count: int
    """Number of studies in the set."""


@dataclass(frozen=True)
class BoardEntry:
    """One row of a table."""

    id: str
    """Stable identifier: a hash of the entry's content."""
    strategy: str
    config: Mapping[str, Json]
    """The strategy's options."""
    scores: tuple[Score, ...]
    missing: tuple[Missing, ...]
    verified: bool
    flags: tuple[str, ...]
    stream: dict[str, object]
    """Name, sources and options of the stream, which the rows of a table share."""
    tuning: Tuning | None = None
    """Facts of the tuning; None for runs with hand-set hyper-parameters."""
    study: StudyPlace | None = None
    """Place among studies that are reported by their median; None for a single study."""

    @property
    def adaptation(self) -> bool:
        """Whether the stream is an adaptation stream: tables show errors, not accuracies."""
        return self.scores[0].record.result.scenario.setting == "adaptation"

    @property
    def mode(self) -> str:
        """Name of the mode: the data that tuning was allowed to use."""
        return self.tuning.mode if self.tuning else BY_HAND

    @property
    def complete(self) -> bool:
        """Whether a mean may be stated: no promised run is missing."""
        return not self.missing

    @property
    def alike(self) -> bool:
        """Whether all seeds gave the same accuracy, so that no spread can be stated."""
        return _alike([score.record.result for score in self.scores])

    @property
    def seconds(self) -> float:
        """Total time of all runs that are results, in seconds."""
        return float(sum(score.record.cost.wall_seconds for score in self.scores))


@dataclass(frozen=True)
class Exclusion:
    """A folder below ``records/`` that no table shows, with the reason."""

    place: str
    reason: str


@dataclass
class Board:
    """The content of a leaderboards folder."""

    entries: list[BoardEntry] = field(default_factory=list)
    left_out: list[Exclusion] = field(default_factory=list)
    sent: dict[str, list[Path]] = field(default_factory=dict)
    """Python files by the folder below ``records/`` that they came with."""

    def refuse(self, place: str, reason: str) -> None:
        """Exclude a folder, with the reason."""
        self.left_out.append(Exclusion(place, reason))

    def sent_with(self, scores: Sequence[Score]) -> list[Path]:
        """Python files that came with some runs."""
        folders = {name for score in scores for name in score.place.split("/")[1:2]}
        return [file for folder in sorted(folders) for file in self.sent.get(folder, [])]

    def flags_of(self, scores: Sequence[Score]) -> list[str]:
        """Warnings about the runs of an entry and the code that ran."""
        records = [score.record for score in scores]
        unknown = unknown_code(records[0].result.strategy, self.sent_with(scores))
        return sorted([*run_flags(records), *([unknown] if unknown else [])])


def place_of(path: Path, root: Path) -> str:
    """Path below the leaderboards folder, the same on every machine."""
    return path.relative_to(root).as_posix()


def file_of(error: BadRecord) -> str:
    """Reason why a file was refused, without the file's path."""
    return f"the file does not validate: {error.found}"


def subfolders(folder: Path, wanted: Sequence[str]) -> Iterator[tuple[Path, set[str]]]:
    """Folders that contain one of the wanted files, in order, with all names in them.

    Folders below such a folder are not searched, and no link is followed.
    """
    with os.scandir(folder) as found:
        items = sorted(found, key=lambda item: item.name)
    names = {item.name for item in items}
    if names.intersection(wanted):
        yield folder, names
        return
    for item in items:
        if item.is_dir(follow_symlinks=False):
            yield from subfolders(folder / item.name, wanted)


def options_text(config: Mapping[str, object]) -> str:
    """A strategy's options, without those that the stream's preset sets, as one text."""
    own = {k: v for k, v in config.items() if k.rpartition(".")[2] not in FROM_PRESET}
    return canonical_json(own).decode()


def run_flags(records: list[Record]) -> list[str]:
    """Warnings about runs that differ only in their seeds."""
    results = [record.result for record in records]
    flags = {flag for result in results for source in result.sources for flag in source.flags}
    for source in {source.name for result in results for source in result.sources}:
        if "~" in source:
            flags.add(f"modified source {source}")
    if _alike(results):
        flags.add("all seeds ended at the same accuracy")
    if any(record.environment.engine == "inline" for record in records):
        flags.add("gym and learner shared a process")
    if any(result.class_names for result in results):
        flags.add("names of the classes were given")
    given = {result.images_given.source for result in results if result.images_given}
    flags |= {f"images of {source} were given" for source in given}
    flags |= {flag for r in results if r.numerics for flag in r.numerics.flags()}
    if any(result.scored_on == "valid" for result in results):
        flags.add("scored on held-out training rows")
    if any(result.part is not None for result in results):
        flags.add("only part of the stream was run")
    if any(result.strategy.known_failures for result in results):
        flags.add("declared failures of checks")
    for backbone in (result.backbone for result in results):
        if backbone is not None:
            flags |= set(_backbone_flags(backbone.overlap, backbone.check))
    flags |= {flag for record in records for flag in record.flags}
    if any(_arrived_as_published(result) for result in results):
        flags.add("images arrived in the published order, which a plugin could know")
    segments = [s for r in results if r.adaptation for s in r.adaptation.segments]
    if collapsed := sum(segment.collapsed for segment in segments):
        flags.add(f"predictions collapsed to one class in {collapsed} of {len(segments)} segments")
    if _on_different_devices(records):
        flags.add("runs on different devices")
    return sorted(flags)


def _on_different_devices(records: Sequence[Record]) -> bool:
    """Whether runs name different devices; early records do not say which processor they had."""
    places = [record.environment for record in records]
    names = {(place.device.partition(":")[0], place.device_name) for place in places}
    return len({kind for kind, _ in names}) > 1 or len({name for _, name in names if name}) > 1


def _arrived_as_published(result: Result) -> bool:
    """Whether the order of images follows from public seeds; early records do not say."""
    adapts = result.adaptation is not None
    return adapts and result.scenario.config.get("arrival", "published") == "published"


def _alike(results: Sequence[Result]) -> bool:
    """Whether the seeds changed nothing, so that several runs say no more than one."""
    return len(results) > 1 and len({result.last_accuracy for result in results}) == 1


def _backbone_flags(overlap: list[str], check: str) -> Iterator[str]:
    if overlap:
        classes = "class" if len(overlap) == 1 else "classes"
        yield f"the pretraining data contain {len(overlap)} {classes} of the stream"
    if check == "differs":
        yield "weights differ from the known ones of this name"
    elif check == "unverified":
        yield "weights could not be compared with known ones"
    elif check == "random":
        yield "random weights"
