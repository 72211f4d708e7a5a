"""What every line of a ledger may say, and what of a certificate's envelope follows from it."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, ValidationError

from clgym.gym.request import Sandbox
from clgym.protocol.ledger import INTERRUPTED, LedgerEntry
from clgym.protocol.plan import Envelope
from clgym.protocol.runs import RETRY_FAILED

__all__ = ["envelope_problems", "line_problems"]

_Count = Annotated[int, Ge(0), Le(2**31 - 1)]
_Positive = Annotated[int, Ge(1), Le(2**31 - 1)]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Session(_Line):
    engine: Literal["process", "inline", "ray", "slurm"]
    workers: _Positive
    sandbox: Sandbox | None = None
    """Not in the lines of earlier versions."""
    plugins: list[dict[Literal["path", "class", "sha256"], str]] = []


class _FailedRun(_Line):
    key: str
    trial: _Count
    seed: int
    status: Literal["failed"]
    error: str
    reason: str


class _Retry(_Line):
    key: str
    reason: str
    error: Literal["WorkerDied", "JobLost"] | None = None
    """Not in the lines of earlier versions."""


class _RetryFailed(_Line):
    key: str
    error: str


class _Interrupted(_Line):
    error: str
    reason: str
    key: str | None = None
    """Run of the tuning; None in an evaluation."""
    evaluation: int | None = None
    seed: int | None = None


class _Sealed(_Line):
    certificate: str
    hash: str


class _Opened(_Line):
    evaluation: int
    seeds: list[int]


class _Evaluated(_Line):
    evaluation: int
    seed: int
    error: str | None
    reason: str | None
    record: str | None
    result: str | None
    parts: list[str] = []


class _Complete(_Line):
    evaluation: int
    file: str
    hash: str | None = None
    """Not in the lines of clgym 0.1."""


_LINES: dict[str, type[_Line]] = {
    "session": _Session,
    "retry": _Retry,
    RETRY_FAILED: _RetryFailed,
    INTERRUPTED: _Interrupted,
    "sealed": _Sealed,
    "opened": _Opened,
    "evaluated": _Evaluated,
    "complete": _Complete,
}
"""Lines whose fields are checked here. Those of trials, finished runs and trials that were stopped
are compared with what the plan and the records determine."""


def line_problems(entries: Sequence[LedgerEntry]) -> Iterator[str]:
    """Yield lines with fields or values that no phase of a study writes.

    Args:
        entries: Lines of the ledger.
    """
    started: set[str] = set()
    for number, entry in enumerate(entries, 1):
        key = str(entry.body.get("key"))
        if entry.kind == "trial":
            started.add(key)
        elif _is_of_a_run(entry) and key.rpartition("/")[0] not in started:
            yield f"line {number} is of {key}, which was not started before"
        failed = entry.kind == "run" and entry.body.get("status") != "done"
        model = _FailedRun if failed else _LINES.get(entry.kind)
        if type(entry.time) not in (int, float):
            yield f"line {number}: time is no number"
        if model is not None:
            yield from (f"line {number}: {problem}" for problem in _misfits(model, entry))


def _is_of_a_run(entry: LedgerEntry) -> bool:
    """Whether a line is of a run of the tuning, which must have been started."""
    tuning = entry.kind == INTERRUPTED and "evaluation" not in entry.body
    return tuning or entry.kind in ("run", "retry")


def _misfits(model: type[_Line], entry: LedgerEntry) -> Iterator[str]:
    try:
        line = model.model_validate(entry.body)
    except ValidationError as error:
        first = error.errors()[0]
        yield f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        return
    if isinstance(line, _Evaluated):
        if (line.error is None) != (line.reason is None):
            yield "a reason without an error, or an error without a reason"
        if (line.error is None) == (line.record is None or line.result is None):
            yield "an error beside a result, or neither of them"


def envelope_problems(envelope: Envelope, entries: Sequence[LedgerEntry]) -> Iterator[str]:
    """Yield fields of a certificate's envelope that do not follow from the ledger.

    The head of the registry is not in the ledger. Numbers of other studies are checked to be
    counts.

    Args:
        envelope: The certificate's.
        entries: Lines of the ledger.
    """
    kinds = [entry.kind for entry in entries]
    before = entries[: kinds.index("sealed")] if "sealed" in kinds else entries
    sessions = [entry.body for entry in before if entry.kind == "session"]
    last = before[-1]
    wanted = {
        "sealed_at": last.time,
        "wall_seconds": round(last.time - before[0].time, 3),
        "sessions": len(sessions),
        "retries": sum(entry.kind in ("retry", RETRY_FAILED) for entry in before),
        "engine": sessions[-1]["engine"],
        "workers": sessions[-1]["workers"],
        "ledger_head": last.hash,
    }
    for name, value in wanted.items():
        if getattr(envelope, name) != value:
            yield f"envelope.{name} does not follow from the ledger"
    if envelope.study_number < 1 or envelope.evaluations_before < 0:
        yield "envelope.study_number or envelope.evaluations_before is no count"
