"""Claims of papers beside what was measured: ``status/PAPER.json``, see `clgym.papers.status`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clgym.board.reading.entries import Board, place_of
from clgym.errors import BadRecord
from clgym.papers import ClaimStatus, RowStatus, load_paper, paper_names, read_status
from clgym.papers.reproduce import Reproduction

__all__ = ["CLAIM_COLUMNS", "Paper", "read_claims"]

STATUS = "status"
CLAIM_COLUMNS = ("Claim", "Verdict", "Claimed", "Measured", "Tolerance", "Scale", "Where it stands")


@dataclass(frozen=True)
class Paper:
    """One paper and its claims, as text."""

    name: str
    title: str
    link: str
    claims: tuple[tuple[str, ...], ...]
    """One row a claim, by column."""


def read_claims(board: Board, root: Path) -> list[Paper]:
    """All papers that have a status; what does not validate or follow is left out, and why.

    A verdict is judged again from the records on the board; where they are not, it says so.
    """
    papers = []
    for file in sorted((root / STATUS).glob("*.json")):
        place = place_of(file, root)
        try:
            status = read_status(file)
        except BadRecord as error:
            board.refuse(place, f"it does not validate: {error.found}")
            continue
        claims: list[tuple[str, ...]] = []
        for row in status.rows:
            claims += _claims(board, root, status.paper, row, place)
        papers.append(Paper(status.paper, status.title, status.link, tuple(claims)))
    return papers


def _claims(
    board: Board, root: Path, paper: str, row: RowStatus, place: str
) -> Iterator[tuple[str, ...]]:
    """Cells of a row's claims."""
    again = _again(root, paper, row.row)
    for claim in row.claims:
        ours = again.get(claim.claim)
        if ours is not None and ours.verdict == "not run":
            ours = None
        if ours is not None and (ours.measured, ours.verdict) != (claim.measured, claim.verdict):
            board.refuse(f"{place} {row.row}", f"{claim.claim}: not what the records here give")
            continue
        verdict = f"{claim.verdict}: {claim.why}" if claim.why else claim.verdict
        if ours is None and claim.verdict != "not run":
            verdict += " (as stated: its records are not here)"
        yield (
            claim.claim,
            verdict,
            claim.claimed,
            claim.measured or "–",
            claim.tolerance or "–",
            row.scale,
            f"{claim.where} ({claim.known})",
        )


def _again(root: Path, name: str, row: str) -> dict[str, ClaimStatus]:
    """The claims of a row as the records on the board decide them; nothing if it is not known."""
    if name not in paper_names():
        return {}
    paper = load_paper(name)
    if row not in paper.by_row:
        return {}
    work = Reproduction([(paper, paper.by_row[row])], root / "records", root)
    try:
        return {c.claim: c for c in work.judged(paper, paper.by_row[row], {}).claims}
    except BadRecord:
        return {}
