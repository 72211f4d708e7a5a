"""Warnings about a stream, which the record and the board state with its sources."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from clgym.data.content import among
from clgym.data.sources import Source
from clgym.data.words import names_in_words
from clgym.scenario import Step, Transform

__all__ = ["with_stream_flags"]


def with_stream_flags(stream: Any, sources: Sequence[Source]) -> list[Source]:
    """Add warnings about the stream to its sources.

    They name classes that are learned but not tested, since too few rows were held out or the
    options leave none, and count training labels that are wrong on purpose, training images that
    recur, and test images that are training images of another source. Warnings that concern a
    single source are among its flags already (`clgym.data.content`).
    """
    flagged = []
    for number, source in enumerate(sources):
        steps = [step for step in getattr(stream, "steps", ()) if step.source == number]
        flags = list(source.flags)
        if missing := sorted(_learned(source, steps) - _measured(source, steps)):
            names = names_in_words([source.classes[label] for label in missing])
            flags.append(f"classes that this stream does not measure: {names}")
        if wrong := _wrong_labels(stream, source, steps):
            total = sum(len(step.train) for step in steps)
            flags.append(f"{wrong} of {total} training labels wrong on purpose; test labels true")
        if again := _recurring(steps):
            flags.append(f"{again} training images come in more than one experience")
        if shared := _of_other_sources(stream, sources, number, steps):
            flags.append(f"{shared} test images are training images of another source")
        flagged.append(replace(source, flags=tuple(flags)) if steps else source)
    return flagged


def _wrong_labels(stream: Any, source: Source, steps: Sequence[Step]) -> int:
    """Number of training rows whose given label differs from the source's."""
    noisy = [step for step in steps if step.labels is not None]
    columns = getattr(stream, "columns", ())
    true = [np.array(columns[s.source])[source.train.labels[s.train]] for s in noisy]
    return sum(int((s.labels != labels).sum()) for s, labels in zip(noisy, true, strict=True))


def _recurring(steps: Sequence[Step]) -> int:
    """Number of training images that recur unchanged in a later experience."""
    looks: dict[Transform | None, list[np.ndarray]] = {}
    for step in steps:
        looks.setdefault(step.transform, []).append(step.train)
    counts = (np.unique(np.concatenate(rows), return_counts=True)[1] for rows in looks.values())
    return sum(int((n > 1).sum()) for n in counts)


def _learned(source: Source, steps: Sequence[Step]) -> set[int]:
    """Labels of the training rows, without those that no test row has."""
    rows = [part for step in steps for part in (step.train, step.valid)]
    on_test = all(step.measured_on == "test" for step in steps)
    labels = {y for part in rows for y in np.unique(source.train.labels[part]).tolist()}
    return labels & set(np.unique(source.test.labels).tolist()) if on_test else labels


def _measured(source: Source, steps: Sequence[Step]) -> set[int]:
    splits = {"test": source.test, "train": source.train}
    labels = (splits[step.measured_on].labels[step.test] for step in steps)
    return {y for part in labels for y in np.unique(part).tolist()}


def _of_other_sources(
    stream: Any, sources: Sequence[Source], number: int, steps: Sequence[Step]
) -> int:
    """Number of test images of a source that are training images of the stream's other sources."""
    tested = [step.test for step in steps if step.measured_on == "test"]
    learned = [
        sources[step.source].train.hashes[step.train]
        for step in getattr(stream, "steps", ())
        if sources[step.source].fingerprint != sources[number].fingerprint
    ]
    if not tested or not learned:
        return 0
    rows = np.unique(np.concatenate(tested))
    return int(among(sources[number].test.hashes[rows], np.concatenate(learned)).sum())
