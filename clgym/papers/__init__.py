"""Papers: their claims as data, and the results of running them.

`clgym.papers.claims` reads ``leaderboards/papers/*.toml``; `clgym.papers.reproduce` runs the rows;
`clgym.papers.verdicts` compares claimed and measured values; `clgym.papers.status` stores the
verdicts for the board.
"""

from clgym.papers.claims import (
    Claim,
    ClaimRow,
    ClaimRun,
    ClaimStudy,
    Paper,
    load_paper,
    paper_names,
)
from clgym.papers.status import ClaimStatus, PaperStatus, RowStatus, read_status

__all__ = [
    "Claim",
    "ClaimStatus",
    "Paper",
    "PaperStatus",
    "ClaimRow",
    "RowStatus",
    "ClaimRun",
    "ClaimStudy",
    "load_paper",
    "paper_names",
    "read_status",
]
