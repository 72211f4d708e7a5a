"""Compare records with the images they name: the stream is rebuilt, its rows and labels compared.

Everything else in a record is audited without the data (`clgym.protocol.record_audit`). Invented
labels can agree with predictions perfectly; only the images' own labels, or another run, reveal
them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from clgym import registry
from clgym.data.content import content_notes
from clgym.data.sources import Source
from clgym.errors import BadOutput, BadSource, ClgymError, MissingData, UnknownName, Withheld
from clgym.gym.anytime import exposed_pool
from clgym.gym.arrival import in_order_of_arrival
from clgym.gym.audited import audited_rows
from clgym.gym.request import Request, cut, load_sources, make_scenario
from clgym.gym.scoring import chance_levels, pool_after
from clgym.protocol.audit import MALFORMED, Audit
from clgym.results.record import AdaptationResult, Result
from clgym.results.stored import StoredRun, open_run
from clgym.scenario import Scenario, Stream
from clgym.streams.adaptation import AdaptationStream
from clgym.streams.after_learning import AfterLearning
from clgym.streams.arrangement import segment_labels
from clgym.streams.deletion import DeletionStream
from clgym.streams.pretraining import PretrainingStream, probe_rows
from clgym.streams.source_flags import with_stream_flags
from clgym.streams.two_phases import TwoPhases
from clgym.text import Json

__all__ = ["compare_with_sources"]


_ELSEWHERE = re.compile(r"\b(folder|npz|list):|^~|^\.\.$|[/\\]")
"""Names that denote a path on the author's machine, which is never opened."""
_COLUMNS = ("experience", "domain", "row", "label", "train")


def compare_with_sources(
    audit: Audit, data_root: Path | None = None, plugins: tuple[Path, ...] = ()
) -> None:
    """Add to an audit whether its records agree with their images, or a note if these are missing.

    Args:
        audit: Audit without problems, of the records to compare.
        data_root: Where data lie.
        plugins: Files that hold the scenario or the source.
    """
    for place in audit.records:
        name = f"images of {Path(place).name}"
        run = open_run(Path(place))
        result = run.result
        request = _request(result, data_root, plugins)
        try:
            _check_public(request)
            scenario = _scenario(request)
            sources = [] if scenario is None else load_sources(scenario, request)
        except (MissingData, UnknownName, Withheld, BadSource, BadOutput) as error:
            audit.notes.append(f"{name} not compared: {error}")
            continue
        if other := _other_images(result, sources):
            audit.notes.append(f"{name} not compared: {other}")
            continue
        audit.check(name, partial(_problems, run, request, sources))


def _request(result: Result, data_root: Path | None, plugins: tuple[Path, ...]) -> Request:
    return Request(
        result.strategy.name,
        result.scenario.name,
        scenario_config=_options(result),
        order_seed=result.order_seed,
        score_on=result.scored_on,
        part=result.part,
        data_root=data_root,
        plugins=plugins,
    )


def _options(result: Result) -> Mapping[str, Json]:
    """The scenario's options; records from before images could arrive otherwise name no arrival."""
    config = result.scenario.config
    adapts = result.adaptation is not None and "order" in config
    return {"arrival": "published", **config} if adapts else config


def _check_public(request: Request) -> None:
    """Check that a record's stream is known here and uses only public names.

    Raises:
        MissingData: The images were a file of the record's author.
        UnknownName: The scenario is unknown.
    """
    registry.find("scenarios", request.scenario, request.plugins)
    for option, value in request.scenario_config.items():
        listed = isinstance(value, (list, tuple))
        for word in cast(Sequence[object], value) if listed else [value]:
            if isinstance(word, str) and _ELSEWHERE.search(word):
                raise MissingData(
                    expected="images from a source that others can get, too",
                    found=f"{option} {word!r}, which is a file of the record's author",
                    fix="Repeat the run on a machine that has that file",
                )


def _scenario(request: Request) -> Scenario | None:
    """The scenario; None if it refuses the record's options, which the check then reports."""
    try:
        return make_scenario(request)
    except (ClgymError, *MALFORMED):
        return None


def _other_images(result: Result, sources: Sequence[Source]) -> str | None:
    """Text saying that another copy of the sources is here; None if images are comparable.

    A modified copy has another name (``cifar10~1a2b``), so two contents of one name cannot both be
    honest.
    """
    here, theirs = [s.name for s in sources], [s.name for s in result.sources]
    bare = [[name.partition("~")[0] for name in names] for names in (here, theirs)]
    if here == theirs or bare[0] != bare[1]:
        return None
    return f"they are of {', '.join(theirs)}, here is {', '.join(here)}"


def _problems(run: StoredRun, request: Request, sources: list[Source]) -> Iterator[str]:
    """Yield values of a record and its predictions that differ from those of its stream."""
    result = run.result
    stream, _ = cut(make_scenario(request), sources, request)
    stated = {s.name: s.flags for s in result.sources}
    own = [
        (s.name, s.fingerprint, _flags(s, flagged, stated.get(s.name, [])))
        for s, flagged in zip(sources, with_stream_flags(stream, sources), strict=True)
    ]
    facts = {
        "sources": (own, [(s.name, s.fingerprint, list(s.flags)) for s in result.sources]),
        "scenario.setting": (stream.setting, result.scenario.setting),
        "scenario.digest": (stream.digest, result.scenario.digest),
        "class_order": (list(stream.class_order), result.class_order),
        **dict(_names_and_chance(stream, result)),
    }
    wrong = [name for name, (here, theirs) in facts.items() if here != theirs]
    yield from (f"result.{name} is not that of its stream" for name in wrong)
    if wrong:
        return
    key = run.record.environment.order_key
    truth = dict(_truth(stream, sources, request.data_root, key))
    untested = {f"{i}" for i, value in enumerate(result.accuracy_after) if value is None}
    truth = {name: v for name, v in truth.items() if name.partition("/")[0] not in untested}
    answers = run.predictions().arrays
    known = {name for name in answers if name.rpartition("/")[2] in _COLUMNS}
    for name in sorted(known ^ truth.keys()):
        yield f"{name} of the predictions is {'missing' if name in truth else 'of no image'}"
    for name in sorted(known & truth.keys()):
        if not np.array_equal(answers[name], truth[name]):
            yield f"{name} of the predictions is not that of its images"
    if not isinstance(result, AdaptationResult) and result.anytime is not None:
        learning = stream.learning if isinstance(stream, AfterLearning) else stream
        yield from _anytime_problems(learning, sources, answers)


def _names_and_chance(stream: Any, result: Result) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """What a stream and a record say of segments, domains and guessing, by field of the result."""
    if (adaptation := result.adaptation) is not None:
        shown: AdaptationStream = stream.shift if isinstance(stream, TwoPhases) else stream
        names = [segment.name for segment in shown.segments]
        yield "adaptation.segments", (names, [s.name for s in adaptation.segments])
        present = {
            int(number) for segment in shown.segments for number in np.unique(segment.domain)
        }
        domains = [shown.domains[number].name for number in sorted(present)]
        yield "adaptation.domains", (domains, list(adaptation.domains))
    if not isinstance(result, AdaptationResult):
        learning = cast(Stream, getattr(stream, "learning", stream))
        if len(result.chance) == len(learning):  # records of the first schema have one number
            yield "chance", (chance_levels(learning), result.chance)


def _anytime_problems(
    stream: Stream, sources: Sequence[Source], answers: Mapping[str, np.ndarray]
) -> Iterator[str]:
    """Yield the rows and labels tested inside experiences that are not those of the images.

    They are stored in the keyed order in which they were sent, so they are compared after sorting.
    """
    for i in range(len(stream)):
        pool = exposed_pool(stream, sources, i)
        row, label = (answers[f"{i}/anytime_{name}"] for name in ("row", "label"))
        truth, stored = np.lexsort((pool.label, pool.row)), np.lexsort((label, row))
        for name, values, own in (("row", row, pool.row), ("label", label, pool.label)):
            if not np.array_equal(values[stored], own[truth]):
                yield f"{i}/anytime_{name} of the predictions is not that of its images"
                break


def _flags(source: Source, flagged: Source, stated: Sequence[str]) -> list[str]:
    """Flags of a source in its stream, without those that an earlier version did not state.

    Args:
        source: The source as loaded.
        flagged: The same with the warnings of its stream.
        stated: Flags of the record.
    """
    newer = set(content_notes(source.train, source.test, source.classes, by_hash=True))
    newer |= set(flagged.flags) - set(source.flags)
    return [flag for flag in flagged.flags if flag in stated or flag not in newer]


def _truth(
    stream: Any, sources: Sequence[Source], data_root: Path | None, key: str | None
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield arrays that a predictions file contains besides predictions, by name.

    Args:
        stream: The plan.
        sources: The stream's sources.
        data_root: Where data lie.
        key: Key of the order in which images arrived, from the record.
    """
    if isinstance(stream, TwoPhases):
        columns = np.array(stream.columns[0])
        yield from _truth(stream.learning, sources, data_root, key)
        for name, values in _truth(stream.shift, sources, data_root, key):
            yield f"shift/{name}", columns[values] if name.endswith("label") else values
    elif isinstance(stream, DeletionStream):
        yield from _truth(stream.learning, sources, data_root, key)
        audited = vars(audited_rows(stream, sources))
        yield from ((f"audit/{name}", values) for name, values in audited.items())
    elif isinstance(stream, PretrainingStream):
        yield from _pools(stream, sources)
        fitted = probe_rows(stream, [s.train.labels for s in sources], len(stream) - 1)
        names = ("experience", "row", "label")
        yield from ((f"probe/{name}", v) for name, v in zip(names, fitted, strict=True))
    elif isinstance(stream, AdaptationStream):
        planned = segment_labels(stream, sources, data_root)
        stream = in_order_of_arrival(stream, planned, key or "")
        labels = segment_labels(stream, sources, data_root)
        for i, segment in enumerate(stream.segments):
            yield from _named(i, label=labels[i], domain=segment.domain, row=segment.row)
    else:
        yield from _pools(stream, sources)


def _pools(stream: Stream, sources: Sequence[Source]) -> Iterator[tuple[str, np.ndarray]]:
    """Test rows of each evaluation of a learning stream."""
    for i in range(len(stream)):
        pool = pool_after(stream, sources, i)
        yield from _named(i, experience=pool.step, row=pool.row, label=pool.label)


def _named(number: int, **values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    yield from ((f"{number}/{name}", value) for name, value in values.items())
