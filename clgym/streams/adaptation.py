"""Adaptation streams: unlabelled batches whose appearance or label distribution changes.

Like a learning stream it is a plan of row numbers, a value without images. A *domain* is an
appearance of images (a corruption of a source, or another source); a *segment* is a section of the
stream, whose boundaries a strategy does not know. This module does not import torch.
"""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt

from clgym._moved import report_renamed
from clgym.data.published import published_digest
from clgym.errors import BadStream
from clgym.scenario import Scenario, Seed, check_part

if TYPE_CHECKING:
    from clgym.data.sources import Source, Split
    from clgym.messages import SegmentOutline

__all__ = [
    "AdaptationConfig",
    "AdaptationScenario",
    "AdaptationStream",
    "Arrival",
    "Batch",
    "Domain",
    "Order",
    "Segment",
    "stream_of",
]

report_renamed(__name__)

Order = Literal["iid", "sorted", "dirichlet"]
Arrival = Literal["withheld", "published"]
Batch = tuple[tuple[int, slice], ...]
"""Slices of segments that arrive together, each with the index of its segment."""

_BY_HSV = ("brightness", "saturate")
"""Corruptions that change hue, saturation or value."""


@dataclass(frozen=True)
class Domain:
    """A domain: the images of a source, unchanged or corrupted."""

    name: str
    source: int
    """Index of the source in the stream's list of sources."""
    part: Literal["test", "all"] = "test"
    """Rows of the source that are used: the test split, or the training rows followed by the test
    rows."""
    corruption: str | None = None
    severity: int = 0
    seed: int = 0
    """Seed of the corruption's random numbers."""
    published: str | None = None
    """Folder in the data root whose published files are read instead, such as ``CIFAR-10-C``."""
    hsv: Literal["exact", "scaled"] = "exact"
    """Computation of hue, saturation and value; see `clgym.data.corruptions.Hsv`."""

    def facts(self) -> dict[str, object]:
        """Facts that determine its images; ``hsv`` only if it matters and is ``exact``."""
        held = asdict(self)
        if self.hsv == "scaled" or self.corruption not in _BY_HSV or self.published is not None:
            del held["hsv"]
        return held


@dataclass(frozen=True, eq=False)
class Segment:
    """A section of the stream, with its rows in order of arrival."""

    name: str
    domain: np.ndarray
    """int64 [n], index into the stream's domains."""
    row: np.ndarray
    """int64 [n], row number in that domain."""


@dataclass(frozen=True, eq=False)
class AdaptationStream:
    """A plan of unlabelled batches. Two streams are equal if their plans are."""

    name: str
    sources: tuple[str, ...]
    fingerprints: tuple[str, ...]
    """Fingerprint of each source, in order, followed by digests of published files."""
    image_shape: tuple[int, int, int]
    """Channels, height and width of the images that the learner receives."""
    class_order: tuple[str, ...]
    """Class names by class index."""
    domains: tuple[Domain, ...]
    segments: tuple[Segment, ...]
    batch_size: int
    """Number of images per batch. The last batch of the stream may be smaller; if the stream is not
    `continuous`, the last batch of every segment may be."""
    home: int | None
    """Index of the source domain of the classifier; None if its data are not available."""
    home_part: Literal["train", "all"] = "train"
    """Rows of the source domain that serve as source data."""
    reset_each_segment: bool = False
    """Whether the strategy is reset at the start of every segment, which reveals the boundaries."""
    exchanged: Literal["all", "class", "domain"] | None = None
    """Images of a segment that the gym permutes before they arrive, by a key that the learner
    cannot compute: all, or those of one class or domain among themselves, so that the order of
    classes or domains stays that of the plan. None: the images arrive in the order of the plan.
    """

    setting = "adaptation"
    single_pass = True
    gives_task_ids = False

    def __len__(self) -> int:
        """Count the segments."""
        return len(self.segments)

    def home_splits(self, sources: "Sequence[Source]") -> "list[Split]":
        """Splits with the labelled images of the source domain; empty if not available.

        Args:
            sources: Sources of the stream.
        """
        if self.home is None:
            return []
        source = sources[self.home]
        return [source.train, source.test] if self.home_part == "all" else [source.train]

    def __eq__(self, other: object) -> bool:
        """Whether both plans are equal."""
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
            [domain.facts() for domain in self.domains],
            self.batch_size,
            self.home,
            self.home_part,
            self.reset_each_segment,
        ]
        facts += [] if self.exchanged is None else [self.exchanged]
        state = hashlib.sha256(json.dumps(facts).encode())
        for segment in self.segments:
            state.update(segment.name.encode() + len(segment.row).to_bytes(8, "little"))
            state.update(
                segment.domain.astype("<i8").tobytes() + segment.row.astype("<i8").tobytes()
            )
        return state.hexdigest()

    @property
    def continuous(self) -> bool:
        """Whether batches may cross the ends of segments, so that no short batch marks an end."""
        return self.exchanged is not None and not self.reset_each_segment

    def batches(self) -> list[Batch]:
        """Slices of segments of every batch, in order of arrival."""
        lengths = [len(segment.row) for segment in self.segments]
        if not self.continuous:
            return [
                ((number, slice(start, min(start + self.batch_size, length))),)
                for number, length in enumerate(lengths)
                for start in range(0, length, self.batch_size)
            ]
        bounds = np.cumsum([0, *lengths]).tolist()
        return [
            tuple(
                (
                    number,
                    slice(max(start, first) - first, min(start + self.batch_size, end) - first),
                )
                for number, (first, end) in enumerate(itertools.pairwise(bounds))
                if first < start + self.batch_size and start < end
            )
            for start in range(0, bounds[-1], self.batch_size)
        ]

    def outline(self) -> "list[SegmentOutline]":
        """Content of each segment, for ``--dry-run`` and progress, without labels."""
        # imported here, since using a stream does not need pydantic
        from clgym.messages import SegmentOutline

        classes = len(self.class_order)
        return [
            SegmentOutline(name=s.name, classes=classes, train=len(s.row), test=len(s.row))
            for s in self.segments
        ]

    def columns_after(self, index: int) -> int:
        """Return the number of all classes, which are known from the start."""
        return len(self.class_order)

    def on_validation(self) -> "AdaptationStream":
        """Raise: an adaptation stream has no held-out rows.

        Raises:
            BadStream: Always; tuning needs another stream.
        """
        raise BadStream(
            expected="a stream with held-out training rows",
            found=f"{self.name}, whose predictions are scored when they are made",
            fix="Tune on other corruptions (--corruptions extra) or another source",
        )

    def part(self, first: int, end: int) -> "AdaptationStream":
        """Return some of the segments as a stream.

        Raises:
            BadStream: The stream has no such segments.
        """
        check_part(self, first, end, "segments")
        return replace(self, segments=self.segments[first:end])


@dataclass(frozen=True)
class AdaptationConfig:
    """Options that all adaptation streams have."""

    source: str
    """Source of the images: a name of `clgym list sources`, folder:PATH or npz:PATH."""
    model: str = "auto"
    """Classifier to adapt: NETWORK@FILE, the folder of a finished run, or auto: a small classifier
    that clgym trains on the source's training rows."""
    batch_size: Annotated[int, Ge(1)] = 200
    """Number of images per batch."""
    images: Annotated[int, Ge(1)] | None = None
    """Number of images per segment (such as one corruption), drawn at random; none: all."""
    rows: Literal["all", "tuning", "evaluation"] = "all"
    """Images that arrive: all, or one of two disjoint halves (tuning, evaluation), split by image
    hash."""
    order: Order = "iid"
    """Order of the images within a segment: shuffled, sorted by class, or Dirichlet chunks."""
    delta: Annotated[float, Gt(0)] = 0.1
    """Concentration of the Dirichlet order; smaller values give longer runs of few classes."""
    order_seed: Seed = 1
    """Seed of the image order."""
    arrival: Arrival = "withheld"
    """Order of the images over the segments. withheld: a new order in every segment, which
    the learner cannot compute; batches cross the ends of segments. published: the same order in
    every segment, computed from the order seed; the last batch of each is smaller."""
    resize: Annotated[int, Ge(1)] | None = None
    """Side in pixels to which images are resized (bilinear) before the learner receives them."""


class AdaptationScenario(Scenario):
    """Base of scenarios that create an `AdaptationStream`."""

    Config = AdaptationConfig

    def stream(  # type: ignore[override]
        self, sources: Sequence["Source"], order_seed: int | None
    ) -> AdaptationStream:
        """Plan the batches; see `Scenario.stream`."""
        raise NotImplementedError


def _published(scenario: Scenario, domains: Sequence[Domain]) -> list[str]:
    """Digests of the published files that are read."""
    return [
        published_digest(scenario.data_root, domain.published, domain.corruption, domain.severity)
        for domain in domains
        if domain.published is not None and domain.corruption is not None
    ]


_EXCHANGED: dict[str, Literal["all", "domain"]] = {"iid": "all", "by-domain": "domain"}
"""Value of `exchanged` by order of a segment; all other orders keep the order of classes."""


def stream_of(
    scenario: Scenario,
    sources: Sequence["Source"],
    domains: Sequence[Domain],
    segments: Sequence[Segment],
    **facts: Any,
) -> AdaptationStream:
    """Return the stream, after a check that its domains have the same classes and image shape.

    Raises:
        BadStream: They differ in classes or image shape.
    """
    resize, home, order = scenario.config.resize, sources[0], scenario.config.order
    withheld = getattr(scenario.config, "arrival", "published") == "withheld"
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
    # for grey images both give the same result, so their streams keep their digests
    if shapes[0][0] == 1:
        domains = [replace(domain, hsv="scaled") for domain in domains]
    return AdaptationStream(
        name=scenario.name,
        sources=tuple(s.name for s in sources),
        fingerprints=(*(s.fingerprint for s in sources), *_published(scenario, domains)),
        image_shape=shapes[0],
        class_order=home.classes,
        domains=tuple(domains),
        segments=tuple(segments),
        batch_size=scenario.config.batch_size,
        exchanged=_EXCHANGED.get(order, "class") if withheld else None,
        **facts,
    )
