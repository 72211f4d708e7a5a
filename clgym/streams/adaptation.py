"""What an adaptation stream is: unlabelled batches whose look or label mix changes as they come.

Like a learning stream it is a plan of row numbers, a value without images. A *domain* is a way that
images look (a corruption of a source, or another source); a *segment* is a stretch of the stream,
and nobody is told where one ends. Nothing here imports torch.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from clgym.config import Range
from clgym.data.halves import in_half
from clgym.data.published import published_digest, published_labels
from clgym.errors import BadStream
from clgym.scenario import Scenario, check_part
from clgym.streams import orders

if TYPE_CHECKING:
    from clgym.data.sources import Source
    from clgym.messages import SegmentOutline

__all__ = [
    "AdaptationConfig",
    "AdaptationScenario",
    "AdaptationStream",
    "Domain",
    "Order",
    "Segment",
    "arranged",
    "labels_of",
    "rows_of",
    "segment_labels",
    "stream_of",
]

Order = Literal["iid", "sorted", "dirichlet"]


@dataclass(frozen=True)
class Domain:
    """One look: the images of a source as they are, or corrupted."""

    name: str
    source: int
    """Which of the stream's sources."""
    part: Literal["test", "all"] = "test"
    """Its rows: those of the test split, or the training rows with the test rows behind them."""
    corruption: str | None = None
    severity: int = 0
    seed: int = 0
    """Of the corruption's draws."""
    published: str | None = None
    """Folder in the data root whose files are read instead: ``CIFAR-10-C``."""


@dataclass(frozen=True, eq=False)
class Segment:
    """A stretch of the stream, row by row in the order of arrival."""

    name: str
    domain: np.ndarray
    """int64 [n], into the stream's domains."""
    row: np.ndarray
    """int64 [n], row of that domain."""


@dataclass(frozen=True, eq=False)
class AdaptationStream:
    """A plan of unlabelled batches. Two streams are equal when their plans are."""

    name: str
    sources: tuple[str, ...]
    fingerprints: tuple[str, ...]
    """Of each source, in order; then digests of published files."""
    image_shape: tuple[int, int, int]
    """Channels, height, width of what reaches the learner."""
    class_order: tuple[str, ...]
    """Class names by column of the logits."""
    domains: tuple[Domain, ...]
    segments: tuple[Segment, ...]
    batch_size: int
    """Images that arrive together; the last batch of a segment may be short."""
    home: int | None
    """Which source the classifier was made for; None if its data are not here."""
    home_part: Literal["train", "all"] = "train"
    """The rows of it that count as source data."""
    reset_each_segment: bool = False
    """Whether the strategy starts afresh with every segment, which tells it where they begin."""

    setting = "adaptation"
    single_pass = True
    gives_task_ids = False

    def __len__(self) -> int:
        """Count the segments."""
        return len(self.segments)

    def __eq__(self, other: object) -> bool:
        """Say whether both plan the same."""
        return isinstance(other, AdaptationStream) and self.digest == other.digest

    def __hash__(self) -> int:
        """Hash the plan."""
        return hash(self.digest)

    @property
    def digest(self) -> str:
        """SHA-256 of the whole plan, hex."""
        facts = [
            self.setting,
            self.fingerprints,
            self.image_shape,
            self.class_order,
            [asdict(domain) for domain in self.domains],
            self.batch_size,
            self.home,
            self.home_part,
            self.reset_each_segment,
        ]
        state = hashlib.sha256(json.dumps(facts).encode())
        for segment in self.segments:
            state.update(segment.name.encode() + len(segment.row).to_bytes(8, "little"))
            state.update(
                segment.domain.astype("<i8").tobytes() + segment.row.astype("<i8").tobytes()
            )
        return state.hexdigest()

    def batches(self) -> list[tuple[int, slice]]:
        """Segment and places of every batch, in order of arrival."""
        size = self.batch_size
        return [
            (number, slice(start, min(start + size, len(segment.row))))
            for number, segment in enumerate(self.segments)
            for start in range(0, len(segment.row), size)
        ]

    def outline(self) -> "list[SegmentOutline]":
        """What each segment brings, for ``--dry-run`` and progress; nothing in it is labelled."""
        from clgym.messages import SegmentOutline  # here: looking at a stream needs no pydantic

        classes = len(self.class_order)
        return [
            SegmentOutline(name=s.name, classes=classes, train=len(s.row), test=len(s.row))
            for s in self.segments
        ]

    def columns_after(self, index: int) -> int:
        """All classes are known from the start."""
        return len(self.class_order)

    def on_validation(self) -> "AdaptationStream":
        """Nothing is held out of a stream that is scored as it comes.

        Raises:
            BadStream: always; tuning takes a stream of its own.
        """
        raise BadStream(
            expected="a stream with held-out training rows",
            found=f"{self.name}, whose answers are scored as they are given",
            fix="Tune on other corruptions (--corruptions extra) or another source",
        )

    def part(self, first: int, end: int) -> "AdaptationStream":
        """Some of the segments.

        Raises:
            BadStream: no such segments.
        """
        check_part(self, first, end, "segments")
        return replace(self, segments=self.segments[first:end])


@dataclass(frozen=True)
class AdaptationConfig:
    """Options that every adaptation stream has."""

    source: str
    """Where the images come from: a named source, folder:PATH or npz:PATH."""
    model: str = "auto"
    """Classifier to adapt: NETWORK@FILE, a finished run's folder, or auto: a small one that clgym
    trains on the source's training rows."""
    batch_size: Annotated[int, Range(1)] = 200
    """Images that arrive together."""
    images: Annotated[int, Range(1)] | None = None
    """Images of each segment, a random sample; none means all."""
    rows: Literal["all", "tuning", "evaluation"] = "all"
    """Which images arrive: all, or one of two halves that have none in common, cut by image hash.
    """
    order: Order = "iid"
    """Inside a segment: shuffled, sorted by class, or Dirichlet chunks."""
    delta: Annotated[float, Range(0, exclusive=True)] = 0.1
    """Parameter of the Dirichlet order; the smaller, the fewer classes follow each other."""
    order_seed: Annotated[int, Range(0, 2**32 - 1)] = 1
    """Seed of the orders; the same in every segment."""
    resize: Annotated[int, Range(1)] | None = None
    """Side in pixels to which images are resized (bilinear) on their way to the learner."""


class AdaptationScenario(Scenario):
    """A rule that gives an `AdaptationStream`."""

    Config = AdaptationConfig

    def stream(  # type: ignore[override]
        self, sources: Sequence["Source"], order_seed: int | None
    ) -> AdaptationStream:
        """Plan the batches; see `Scenario.stream`."""
        raise NotImplementedError


def labels_of(
    domain: Domain, sources: Sequence["Source"], data_root: Path | None = None
) -> np.ndarray:
    """The label of every row of a domain, int64."""
    source = sources[domain.source]
    if domain.published is not None and domain.corruption is not None:
        return published_labels(
            data_root, domain.published, domain.corruption, domain.severity, source.classes
        )
    if domain.part == "test":
        return source.test.labels
    return np.concatenate([source.train.labels, source.test.labels])


def segment_labels(
    stream: AdaptationStream, sources: Sequence["Source"], data_root: Path | None = None
) -> list[np.ndarray]:
    """The label of every image of every segment, int64, by class number of the source."""
    by_domain = [labels_of(domain, sources, data_root) for domain in stream.domains]
    labels = []
    for segment in stream.segments:
        own = np.empty(len(segment.row), dtype=np.int64)
        for d in np.unique(segment.domain):
            here = segment.domain == d
            own[here] = by_domain[d][segment.row[here]]
        labels.append(own)
    return labels


def rows_of(
    domain: Domain, sources: Sequence["Source"], config: AdaptationConfig, seed: int, count: int
) -> np.ndarray:
    """The rows of a domain that arrive, shuffled, int64 [n].

    Args:
        domain: Whose rows.
        sources: Of the stream.
        config: ``rows`` and ``images``.
        seed: Of the order.
        count: Rows that the domain has.

    Raises:
        BadStream: half of published files, whose images are not told apart by hash.
    """
    if config.rows == "all":
        return orders.shuffled(count, seed, config.images)
    if domain.published is not None:
        raise BadStream(
            expected="all rows of published files, whose clean images are not in them",
            found=f"--rows {config.rows}",
            fix="Leave --published out: the corruptions are then made here",
        )
    source = sources[domain.source]
    splits = [source.test] if domain.part == "test" else [source.train, source.test]
    hashes = np.concatenate([split.hashes for split in splits])
    held = np.flatnonzero(in_half(hashes, config.rows))
    return held[orders.shuffled(len(held), seed, config.images)]


def arranged(
    rows: np.ndarray, labels: np.ndarray, config: AdaptationConfig, seed: int
) -> np.ndarray:
    """Shuffled rows in the order that the options ask for.

    Args:
        rows: int64 [n], shuffled; they index ``labels``.
        labels: int64.
        config: ``order`` and ``delta``.
        seed: Of a Dirichlet order.
    """
    if config.order == "sorted":
        return orders.sorted_by_label(rows, labels)
    if config.order == "dirichlet":
        return orders.dirichlet(rows, labels, config.delta, seed)
    return rows


def _published(scenario: Scenario, domains: Sequence[Domain]) -> list[str]:
    """Digests of the published files that are read."""
    return [
        published_digest(scenario.data_root, domain.published, domain.corruption, domain.severity)
        for domain in domains
        if domain.published is not None and domain.corruption is not None
    ]


def stream_of(
    scenario: Scenario,
    sources: Sequence["Source"],
    domains: Sequence[Domain],
    segments: Sequence[Segment],
    **facts: Any,
) -> AdaptationStream:
    """The stream, its domains checked to be alike in classes and image shape.

    Raises:
        BadStream: they are not.
    """
    resize, home = scenario.config.resize, sources[0]
    names = [[c.rsplit("/", 1)[-1] for c in source.classes] for source in sources]
    shapes = []
    for source in sources:
        _, height, width, channels = source.test.images.shape
        shapes.append((channels, resize or height, resize or width))
    for source, own, shape in zip(sources, names, shapes, strict=True):
        if own != names[0] or shape != shapes[0]:
            raise BadStream(
                expected=f"domains alike in classes and image shape ({home.name})",
                found=f"{source.name} with {len(own)} classes and images {shape}",
                fix="Give --resize, or sources with the same classes",
            )
    return AdaptationStream(
        name=scenario.name,
        sources=tuple(s.name for s in sources),
        fingerprints=(*(s.fingerprint for s in sources), *_published(scenario, domains)),
        image_shape=shapes[0],
        class_order=home.classes,
        domains=tuple(domains),
        segments=tuple(segments),
        batch_size=scenario.config.batch_size,
        **facts,
    )
