"""Claims of papers beside what was measured: ``status/PAPER.json``, see `clgym.papers.status`."""

from dataclasses import dataclass
from pathlib import Path

from clgym.board.entries import Board, place_of
from clgym.errors import BadRecord
from clgym.papers import PaperStatus, read_status

__all__ = ["CLAIM_COLUMNS", "Paper", "read_claims"]

STATUS = "status"
CLAIM_COLUMNS = ("Claim", "Claimed", "Measured", "Tolerance", "Verdict", "Scale", "Where it stands")


@dataclass(frozen=True)
class Paper:
    """One paper and its claims, as text."""

    name: str
    title: str
    link: str
    claims: tuple[tuple[str, ...], ...]
    """One row a claim, by column."""


def read_claims(board: Board, root: Path) -> list[Paper]:
    """All papers that have a status; a file that does not validate is left out, with the reason."""
    papers = []
    for file in sorted((root / STATUS).glob("*.json")):
        try:
            papers.append(_paper(read_status(file)))
        except BadRecord as error:
            board.refuse(place_of(file, root), f"it does not validate: {error.found}")
    return papers


def _paper(status: PaperStatus) -> Paper:
    claims = [
        (
            claim.claim,
            claim.claimed,
            claim.measured or "–",
            claim.tolerance or "–",
            f"{claim.verdict}: {claim.why}" if claim.why else claim.verdict,
            row.scale,
            f"{claim.where} ({claim.known})",
        )
        for row in status.rows
        for claim in row.claims
    ]
    return Paper(status.paper, status.title, status.link, tuple(claims))
