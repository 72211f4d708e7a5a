"""Read a leaderboards folder: studies, then all other records."""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from clgym.board.reading.entries import (
    Board,
    BoardEntry,
    Missing,
    Score,
    file_of,
    place_of,
    subfolders,
)
from clgym.board.reading.source_files import built_in, python_files
from clgym.board.reading.studies import add_study
from clgym.board.reading.study_sets import group_studies
from clgym.errors import BadRecord
from clgym.protocol.evaluation import EVALUATION
from clgym.protocol.ledger import NAME as LEDGER
from clgym.protocol.study import CERTIFICATE
from clgym.results.grouping import by_seed, method_of, stream_of
from clgym.results.layout import RECORD
from clgym.results.stored import open_run

__all__ = ["RECORDS", "read_board"]

RECORDS = "records"


def read_board(root: Path) -> Board:
    """Read everything below ``records/`` of a leaderboards folder.

    Raises:
        BadRecord: ``root`` is no leaderboards folder.
    """
    if not root.is_dir():
        raise BadRecord(
            expected=f"a leaderboards folder at {root}",
            found="a file" if root.exists() else "nothing",
            fix="Give the folder that contains records/",
        )
    if not any((root / name).is_dir() for name in (RECORDS, "status")):
        raise BadRecord(
            expected=f"a leaderboards folder at {root}",
            found="a folder without records/ and status/",
            fix="Give the folder that contains records/, or create an empty records/ in it",
        )
    board, runs = Board(), []
    folder = root / RECORDS
    if folder.is_dir():
        built_in.cache_clear()  # plugins may have been registered since the last board was read
        board.sent = {f.name: python_files(f) for f in folder.iterdir() if f.is_dir()}
        for found, names in subfolders(folder, (LEDGER, CERTIFICATE, EVALUATION, RECORD)):
            if names & {LEDGER, CERTIFICATE}:
                add_study(board, root, found)
            elif EVALUATION in names:
                board.refuse(place_of(found, root), "an evaluation without its study's ledger")
            else:
                runs += _read_run(board, root, found)
    group_studies(board)
    _add_runs(board, runs)
    board.entries.sort(key=lambda entry: entry.id)
    board.left_out.sort(key=lambda left: (left.place, left.reason))
    return board


def _read_run(board: Board, root: Path, folder: Path) -> Iterator[tuple[Score, bool]]:
    """A single record, and whether its predictions verify it; nothing if the record is refused."""
    place = place_of(folder, root)
    try:
        run = open_run(folder)
    except BadRecord as error:
        board.refuse(place, file_of(error))
        return
    if problems := list(run.problems(predictions_needed=False)):
        board.refuse(place, "; ".join(problems[:3]))
    else:
        yield Score(run, place), run.has_predictions


def _add_runs(board: Board, runs: list[tuple[Score, bool]]) -> None:
    """Add one entry for all runs that differ only in their seeds."""
    groups: dict[str, list[tuple[Score, bool]]] = defaultdict(list)
    for score, verified in runs:
        groups[method_of(score.record.result)].append((score, verified))
    for name, members in groups.items():
        members.sort(key=lambda member: member[0].place)
        entry = _entry(board, name, members)
        board.entries.append(entry)


def _entry(board: Board, name: str, members: list[tuple[Score, bool]]) -> BoardEntry:
    kept: list[tuple[Score, bool]] = []
    for first, *others in by_seed(members, lambda member: member[0].run.result).values():
        kept.append(first)
        shown = first[0]
        for score, _ in others:
            same = score.run.result == shown.run.result
            what = "the same result again" if same else "another result for the same run"
            board.refuse(score.place, f"{what}: {shown.place} is shown")
    scores = [score for score, _ in kept]
    result = scores[0].record.result
    missing = list(_gaps(sorted({score.seed for score in scores})))
    flags = board.flags_of(scores)
    return BoardEntry(
        id=name,
        strategy=result.strategy.label,
        config=result.strategy.config,
        scores=tuple(scores),
        missing=(),
        verified=all(verified for _, verified in kept),
        flags=tuple([*flags, *(f"seed {gap.seed} {gap.why}" for gap in missing)]),
        stream=stream_of(result),
    )


def _gaps(seeds: list[int]) -> Iterator[Missing]:
    """Seeds missing from 0, 1, ...: of 1 and 3, 0 and 2 are missing.

    Of seeds far apart only the first missing one is named: others may have been run and left out.
    """
    if seeds[-1] < 3 * len(seeds):
        for seed in sorted({*range(seeds[-1])} - {*seeds}):
            yield Missing(seed, "is missing")
    elif len(seeds) > 1:
        first = next(seed for seed in itertools.count() if seed not in seeds)
        yield Missing(first, f"and others below {seeds[-1]} are missing")
