"""Read a leaderboards folder: studies, then all other records."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clgym.board.reading.entries import (
    Board,
    BoardEntry,
    Missing,
    Score,
    file_of,
    identity,
    place_of,
    subfolders,
)
from clgym.board.reading.recompute import recompute
from clgym.board.reading.source_files import built_in, python_files
from clgym.board.reading.studies import add_study
from clgym.errors import BadRecord
from clgym.gym.folder import RECORD
from clgym.protocol.evaluation import EVALUATION
from clgym.protocol.ledger import NAME as LEDGER
from clgym.protocol.study import CERTIFICATE
from clgym.results.compare import classifier_of
from clgym.results.record import Result, read_record

__all__ = ["RECORDS", "method_of", "read_board", "stream_of"]

RECORDS = "records"


def read_board(root: Path) -> Board:
    """Read everything below ``records/`` of a leaderboards folder.

    Raises:
        BadRecord: there is no such folder.
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
        built_in.cache_clear()  # what is registered may have changed since another board
        board.sent = {f.name: python_files(f) for f in folder.iterdir() if f.is_dir()}
        for found, names in subfolders(folder, (LEDGER, CERTIFICATE, EVALUATION, RECORD)):
            if names & {LEDGER, CERTIFICATE}:
                add_study(board, root, found)
            elif EVALUATION in names:
                board.refuse(place_of(found, root), "an evaluation without its study's ledger")
            else:
                runs += _read_run(board, root, found)
    _add_runs(board, runs)
    board.entries.sort(key=lambda entry: entry.id)
    board.left_out.sort(key=lambda left: (left.place, left.reason))
    return board


def _read_run(board: Board, root: Path, folder: Path) -> Iterator[tuple[Score, bool]]:
    """A record by itself and whether its predictions bear it out; nothing if it is refused."""
    place = place_of(folder, root)
    try:
        record = read_record(folder)
    except BadRecord as error:
        board.refuse(place, file_of(error))
        return
    again = recompute(folder, record)
    if again.problems:
        board.refuse(place, "; ".join(again.problems[:3]))
    else:
        result = record.result
        yield Score(result.seed, result.order_seed, place, record), again.verified


def stream_of(result: Result) -> dict[str, Any]:
    """Facts that the rows of one table share. The digest differs by class order, so it is left out.

    A classifier that was given goes by its hash: files of one name may hold different ones.
    """
    facts = result.adaptation
    return {
        "name": result.scenario.name,
        "setting": result.scenario.setting,
        "options": {k: v for k, v in result.scenario.config.items() if k != "order_seed"},
        "sources": [[source.name, source.fingerprint] for source in result.sources],
        "scored on": result.scored_on,
        "part": result.part,
        "model": None if facts is None else [facts.model.name, classifier_of(result)],
        "batch size": None if facts is None else facts.batch_size,
    }


def method_of(result: Result) -> str:
    """Facts shared by runs that differ only in their seeds: strategy, options, weights, stream."""
    facts: dict[str, Any] = {
        "strategy": result.strategy.model_dump(mode="json"),
        "stream": stream_of(result),
    }
    if result.backbone is not None:  # a name may stand for other weights elsewhere
        facts["backbone"] = result.backbone.weights
    return identity(facts)


def _add_runs(board: Board, runs: list[tuple[Score, bool]]) -> None:
    """One entry for all runs that differ in seeds only."""
    groups: dict[str, list[tuple[Score, bool]]] = defaultdict(list)
    for score, verified in runs:
        groups[method_of(score.record.result)].append((score, verified))
    for name, members in groups.items():
        members.sort(key=lambda m: (m[0].key, m[0].place))
        entry = _entry(board, name, members)
        board.entries.append(entry)


def _entry(board: Board, name: str, members: list[tuple[Score, bool]]) -> BoardEntry:
    kept: dict[tuple[int, int], tuple[Score, bool]] = {}
    for score, verified in members:
        first = kept.setdefault(score.key, (score, verified))[0]
        if first is not score:
            same = first.record.result == score.record.result
            what = "the same result again" if same else "another result for the same run"
            board.refuse(score.place, f"{what}: {first.place} is shown")
    scores = [score for score, _ in kept.values()]
    result = scores[0].record.result
    missing = list(_gaps(sorted({score.seed for score in scores})))
    flags = board.flags_of(scores)
    return BoardEntry(
        id=name,
        strategy=result.strategy.name,
        config=result.strategy.config,
        scores=tuple(scores),
        missing=(),
        verified=all(verified for _, verified in kept.values()),
        flags=tuple([*flags, *(f"seed {gap.seed} {gap.why}" for gap in missing)]),
        stream=stream_of(result),
    )


def _gaps(seeds: list[int]) -> Iterator[Missing]:
    """Seeds left out of 0, 1, ...: 1, 3 lack 0 and 2. Far apart ones were no range."""
    if seeds[-1] < 3 * len(seeds):
        for seed in sorted({*range(seeds[-1])} - {*seeds}):
            yield Missing(seed, "is missing")
