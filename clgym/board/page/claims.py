"""Claims of papers beside measured numbers: ``status/PAPER.json``, see `clgym.papers.status`."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clgym.board.reading.entries import Board, place_of
from clgym.errors import BadRecord
from clgym.papers import ClaimStatus, RowStatus, load_paper, paper_names, read_status
from clgym.papers.reproduce import Reproduction

__all__ = [
    "CLAIM_COLUMNS",
    "TESTED_COLUMNS",
    "PaperClaims",
    "read_claims",
    "tested_lines",
    "tested_table",
]

STATUS = "status"
CLAIM_COLUMNS = ("Claim", "Verdict", "Claimed", "Measured", "Tolerance", "Scale", "Stated in")
TESTED_COLUMNS = ("Scale", "Kind", "Known from", "Tested", "Reproduced")
_KINDS = {"number": "numbers", "order": "orders", "by construction": "by construction"}


@dataclass(frozen=True)
class TestedClaim:
    """A claim that was tested, with its scale, kind and source."""

    scale: str
    kind: str
    known: str
    held: bool


@dataclass(frozen=True)
class PaperClaims:
    """One paper and its claims, as text."""

    name: str
    title: str
    link: str
    claims: tuple[tuple[str, ...], ...]
    """Cells of each claim, one row per claim, by column."""
    tested: tuple[TestedClaim, ...] = ()
    """Tested claims among those that are shown."""


def read_claims(board: Board, root: Path) -> list[PaperClaims]:
    """Read all papers with a status; invalid or inconsistent ones are left out with the reason.

    Each verdict is computed again from the records on the board; if they are missing, it says so.
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
        tested: list[TestedClaim] = []
        for row in status.rows:
            for claim, cells in _claims(board, root, status.paper, row, place):
                claims.append(cells)
                if claim.verdict != "not run":
                    tested.append(TestedClaim(row.scale, claim.kind, claim.known, claim.held))
        found = PaperClaims(status.paper, status.title, status.link, tuple(claims), tuple(tested))
        papers.append(found)
    return papers


def tested_table(papers: Sequence[PaperClaims]) -> list[tuple[str, ...]]:
    """Number of tested and reproduced claims, by scale, kind and the origin of the claim."""
    claims = [claim for paper in papers for claim in paper.tested]
    groups = Counter((claim.scale, claim.kind, claim.known) for claim in claims)
    held = Counter((claim.scale, claim.kind, claim.known) for claim in claims if claim.held)
    kinds = list(_KINDS)
    order = sorted(groups, key=lambda group: (group[0], kinds.index(group[1]), group[2]))
    return [(*group, str(groups[group]), str(held[group])) for group in order]


def tested_lines(papers: Sequence[PaperClaims]) -> list[str]:
    """Return one phrase per scale, which counts each kind of claim separately."""
    claims = [claim for paper in papers for claim in paper.tested]
    lines = []
    for scale in ("full", "lite"):
        parts = []
        for kind, words in _KINDS.items():
            own = [claim for claim in claims if (claim.scale, claim.kind) == (scale, kind)]
            if own:
                parts.append(f"{sum(claim.held for claim in own)} of {len(own)} {words}")
        lines.append(f"{scale} scale: {', '.join(parts) or 'nothing tested'}")
    return lines if claims else []


def _claims(
    board: Board, root: Path, paper: str, row: RowStatus, place: str
) -> Iterator[tuple[ClaimStatus, tuple[str, ...]]]:
    """A row's claims, with their cells."""
    again = _again(root, paper, row.row)
    for claim in row.claims:
        ours = again.get(claim.claim)
        if ours is not None and ours.verdict == "not run":
            ours = None
        if ours is not None and (ours.measured, ours.verdict) != (claim.measured, claim.verdict):
            board.refuse(
                f"{place} {row.row}",
                f"{claim.claim}: differs from the records on this board",
            )
            continue
        verdict = f"{claim.verdict}: {claim.why}" if claim.why else claim.verdict
        if ours is None and claim.verdict != "not run":
            verdict += " (as stated; its records are missing)"
        cells = (
            claim.claim,
            verdict,
            claim.claimed,
            claim.measured or "–",
            claim.tolerance or "–",
            row.scale,
            f"{claim.where} ({claim.known})",
        )
        yield claim, cells


def _again(root: Path, name: str, row: str) -> dict[str, ClaimStatus]:
    """Claims of a row, judged by the records on the board; empty for an unknown row."""
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
