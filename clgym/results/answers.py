"""The predictions file beside a record: what was answered in which phase, and the truth."""

from pathlib import Path

import numpy as np

from clgym.errors import BadRecord
from clgym.files import sha256
from clgym.results.record import Record, Result

__all__ = ["Answers", "adapted_answers", "answers_of", "learned_answers"]

Answers = dict[str, np.ndarray]
"""Arrays by name."""


def answers_of(folder: Path, record: Record) -> Answers:
    """All arrays of a run's predictions file.

    Raises:
        BadRecord: the file is not there, or not the one that the record speaks of.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    facts = record.result.predictions
    file = folder / facts.file
    try:
        data = file.read_bytes()
        if sha256(data) == facts.sha256:
            return load(data)
        found = "other content"
    except OSError as error:
        found = str(error.strerror)
    except SafetensorError as error:
        found = f"a file that cannot be read ({error})"
    raise BadRecord(
        expected=f"{file} as the record's hash has it",
        found=found,
        fix="Keep the files of a run together, or run it again",
    )


def learned_answers(result: Result, answers: Answers) -> Answers:
    """What was predicted after the last experience, row by row.

    Args:
        result: Of a stream with a learning phase.
        answers: From `answers_of`.

    Returns:
        ``experience``, ``row``, ``label`` and ``predicted``, each [n].
    """
    last = len(result.accuracy_matrix) - 1
    return {key: answers[f"{last}/{key}"] for key in ("experience", "row", "label", "predicted")}


def adapted_answers(result: Result, answers: Answers) -> list[Answers]:
    """What was answered in each segment of an adaptation stream, or of the shift after learning.

    Args:
        result: With an adaptation block.
        answers: From `answers_of`.

    Returns:
        By segment ``domain``, ``row``, ``label`` and ``predicted``, each [n], ordered by domain,
        then row: each run may have had an order of arrival of its own.
    """
    assert result.adaptation is not None
    prefix = "" if result.scenario.setting == "adaptation" else "shift/"
    names, segments = ("domain", "row", "label", "predicted"), []
    for i in range(len(result.adaptation.segments)):
        segment = {name: answers[f"{prefix}{i}/{name}"] for name in names}
        order = np.lexsort((segment["row"], segment["domain"]))
        segments.append({name: values[order] for name, values in segment.items()})
    return segments
