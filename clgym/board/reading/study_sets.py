"""Studies of one plan that are reported by their median: one row instead of several."""

from collections import defaultdict
from dataclasses import replace

from clgym.board.reading.entries import Board, BoardEntry, StudyPlace
from clgym.protocol.plan import StudyPlan
from clgym.protocol.verify_studies import same_set

__all__ = ["group_studies", "place_in_set"]


def place_in_set(plan: StudyPlan, evaluation: int) -> StudyPlace | None:
    """Place of a study's evaluation in its set; None for a single study."""
    if plan.one_of is None:
        return None
    return StudyPlace(f"{same_set(plan)} {evaluation}", *plan.one_of)


def group_studies(board: Board) -> None:
    """Keep the study with the median accuracy of each set; of an incomplete set, keep none.

    Of an even number of studies the lower of the two middle ones is kept, so that every number of
    the row belongs to one study; a warning beside it states the range of all studies.
    """
    sets: dict[str, list[tuple[StudyPlace, BoardEntry]]] = defaultdict(list)
    alone: list[BoardEntry] = []
    for entry in board.entries:
        if entry.study is None:
            alone.append(entry)
        else:
            sets[entry.study.studies].append((entry.study, entry))
    board.entries = alone
    for members in sets.values():
        members.sort(key=lambda member: member[0].number)
        _add(board, [place for place, _ in members], [entry for _, entry in members])


def _add(board: Board, places: list[StudyPlace], entries: list[BoardEntry]) -> None:
    count = max(place.count for place in places)
    present = sorted({place.number for place in places})
    missing = sorted({*range(1, count + 1)} - {*present})
    for place, entry in zip(places, entries, strict=True):
        where = f"study {place.number} of {count}"
        if missing:
            lacking = ", ".join(map(str, missing))
            board.refuse(_folder(entry), f"{where}: without study {lacking} there is no median")
        elif not all(entry.complete for entry in entries):
            board.refuse(_folder(entry), f"{where}: a seed failed, so there is no median")
        elif len(places) != count:
            board.refuse(_folder(entry), f"{where}: a study of the set is there twice")
    if missing or len(places) != count or not all(entry.complete for entry in entries):
        return
    ranked = sorted(entries, key=_accuracy)
    shown = ranked[(count - 1) // 2]
    low, high = 100 * _accuracy(ranked[0]), 100 * _accuracy(ranked[-1])
    words = f"median of {count} studies; their last accuracy is {low:.2f} to {high:.2f} %"
    for place, entry in zip(places, entries, strict=True):
        if entry is not shown:
            reason = f"study {place.number} of {count}: {_folder(shown)} is the median"
            board.refuse(_folder(entry), reason)
    kept = [flag for flag in shown.flags if not flag.endswith("their median is the result")]
    board.entries.append(
        replace(
            shown,
            flags=tuple(sorted([*kept, words])),
            verified=all(entry.verified for entry in entries),
        )
    )


def _accuracy(entry: BoardEntry) -> float:
    return sum(score.primary for score in entry.scores) / len(entry.scores)


def _folder(entry: BoardEntry) -> str:
    """Folder of the evaluation."""
    return entry.scores[0].place.rpartition("/")[0]
