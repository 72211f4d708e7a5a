"""Records against the images they name: the stream is cut again, its rows and labels compared.

Everything else in a record is audited without the data (`clgym.protocol.record_audit`). Labels that
were made up fit predictions perfectly; only the images' own labels, or another run, tell.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from clgym.adaptation.stream import AdaptationStream, segment_labels
from clgym.adaptation.two_phases import TwoPhases
from clgym.data.sources import Source
from clgym.errors import ClgymError
from clgym.protocol.verify import Audit
from clgym.record import Result, read_record
from clgym.request import Request, load_stream
from clgym.run_folder import RECORD
from clgym.scoring import pool_after

__all__ = ["compare_with_sources", "source_problems"]


def compare_with_sources(
    path: Path, audit: Audit, data_root: Path | None = None, plugins: tuple[Path, ...] = ()
) -> None:
    """Add to an audit how the records at ``path`` fit their images; a note where these are absent.

    Args:
        path: A record, its folder, or a study, whose evaluations are looked at.
        audit: That found nothing wrong.
        data_root: Where data lie.
        plugins: Files that hold the scenario or the source.
    """
    folder = path.parent if path.is_file() else path
    alone = (folder / RECORD).is_file()
    for file in [folder / RECORD] if alone else sorted(folder.glob(f"evaluations/*/*/{RECORD}")):
        name = "images" if alone else f"images of {file.parent.relative_to(folder)}"
        try:
            problems = list(source_problems(file.parent, data_root, plugins))
        except ClgymError as error:
            audit.notes.append(f"{name} not compared: {error.found}")
        else:
            audit.checks.append(name)
            audit.problems += [f"{name}: {problem}" for problem in problems]


def source_problems(
    folder: Path, data_root: Path | None, plugins: tuple[Path, ...]
) -> Iterator[str]:
    """What in a record and its predictions is not as its stream has it.

    Raises:
        ClgymError: the stream cannot be cut here: its images are absent, its scenario unknown.
    """
    result = read_record(folder).result
    sources, stream = load_stream(_request(result, data_root, plugins))
    if [source.fingerprint for source in sources] != [s.fingerprint for s in result.sources]:
        yield "result.sources has other images than those that are here"
        return
    if stream.digest != result.scenario.digest:
        yield "result.scenario.digest is not that of its stream"
        return
    if list(stream.class_order) != result.class_order:
        yield "result.class_order is not that of its stream"
    answers = load_file(folder / result.predictions.file)
    for name, wanted in _truth(stream, sources, data_root):
        if name not in answers or not np.array_equal(answers[name], wanted):
            yield f"{name} of the predictions is not that of its images"


def _request(result: Result, data_root: Path | None, plugins: tuple[Path, ...]) -> Request:
    return Request(
        result.strategy.name,
        result.scenario.name,
        scenario_config=result.scenario.config,
        order_seed=result.order_seed,
        score_on=result.scored_on,
        part=result.part,
        data_root=data_root,
        plugins=plugins,
    )


def _truth(
    stream: Any, sources: Sequence[Source], data_root: Path | None
) -> Iterator[tuple[str, np.ndarray]]:
    """What a predictions file holds besides answers, by name."""
    if isinstance(stream, TwoPhases):
        columns = np.array(stream.columns[0])
        yield from _truth(stream.learning, sources, data_root)
        for name, values in _truth(stream.shift, sources, data_root):
            yield f"shift/{name}", columns[values] if name.endswith("label") else values
    elif isinstance(stream, AdaptationStream):
        labels = segment_labels(stream, sources, data_root)
        for i, segment in enumerate(stream.segments):
            yield from _named(i, label=labels[i], domain=segment.domain, row=segment.row)
    else:
        for i in range(len(stream)):
            pool = pool_after(stream, sources, i)
            yield from _named(i, experience=pool.step, row=pool.row, label=pool.label)


def _named(number: int, **values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    yield from ((f"{number}/{name}", value) for name, value in values.items())
