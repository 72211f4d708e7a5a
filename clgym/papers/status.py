"""Results of a paper's rows: ``status/PAPER.json`` on the board."""

from pathlib import Path
from typing import Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from clgym.errors import BadRecord
from clgym.files import write_atomic
from clgym.papers.claims import LINK, Known, Scale

__all__ = ["ClaimStatus", "PaperStatus", "RowStatus", "Verdict", "read_status", "write_status"]

Verdict = Literal[
    "reproduced",
    "differs",
    "order reproduced",
    "order as claimed, within noise",
    "order not as claimed, within noise",
    "order not reproduced",
    "not run",
]


class _StatusBlock(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClaimStatus(_StatusBlock):
    """One claim beside the measured result."""

    claim: str
    """The claim in words."""
    claimed: str
    measured: str
    tolerance: str
    verdict: Verdict
    why: str = ""
    """Explanation: size of the deviation for `differs`, reason for `not run`, difference with
    interval for an order."""
    where: str
    known: Known

    @property
    def kind(self) -> Literal["number", "order", "by construction"]:
        """Kind of claim: an order, a number, or a number that follows from the method's design."""
        if self.tolerance == "-":
            return "order"
        return "by construction" if self.known == "inferred" else "number"

    @property
    def held(self) -> bool:
        """Whether the claim was tested and confirmed, beyond noise."""
        return self.verdict in ("reproduced", "order reproduced")


class RowStatus(_StatusBlock):
    """One row."""

    row: str
    scale: Scale
    about: str
    claims: tuple[ClaimStatus, ...]
    runs: dict[str, str] = {}
    """Measurements of each run in words, by name."""
    seconds: float = 0.0
    """Total seconds of its runs, according to their records."""

    @property
    def measured(self) -> bool:
        """Whether any run of the row is finished."""
        return self.seconds > 0

    @property
    def decided(self) -> bool:
        """Whether the row has verdicts or runs to report."""
        return bool(self.claims) or self.measured


class PaperStatus(_StatusBlock):
    """One paper."""

    schema_version: Literal[1] = 1
    paper: str
    title: str
    link: str = Field(pattern=LINK)
    rows: tuple[RowStatus, ...]

    def joined(self, older: "PaperStatus | None") -> "PaperStatus":
        """Merge its rows with those of an earlier status, so that no measurement is lost.

        A row that could not be run here may have been run elsewhere: its status is kept.
        """
        before = {} if older is None else {row.row: row for row in older.rows}
        own = {row.row: row for row in self.rows if row.measured or row.row not in before}
        return self.model_copy(update={"rows": tuple((before | own).values())})


def read_status(file: Path) -> PaperStatus:
    """Read a status file.

    Raises:
        BadRecord: The file does not exist, or does not validate.
    """
    try:
        return PaperStatus.model_validate_json(file.read_bytes())
    except (OSError, pydantic.ValidationError) as error:
        raise BadRecord(
            expected=f"a status file of `clgym reproduce` at {file}",
            found=str(getattr(error, "strerror", None) or "a file that does not validate"),
            fix="Delete it and repeat `clgym reproduce`; finished runs are kept",
        ) from error


def write_status(file: Path, status: PaperStatus) -> None:
    """Write a status file, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, (status.model_dump_json(indent=1) + "\n").encode())
