"""Table of a deletion stream's measurements: each request before and after it was carried out."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from clgym.results.record import DeletionFacts, Record
from clgym.text import duration

__all__ = ["deletion_costs", "show_requests"]

_ROWS = {
    "accuracy on it": "forgotten_accuracy",
    "accuracy on the rest": "retained_accuracy",
    "called members": "called_members",
}


def show_requests(console: Console, facts: DeletionFacts) -> None:
    """Print two lines per request, before and after, with the distances to the reference."""
    console.print("forgetting on request, in %; attack: area under its ROC curve, 50 is chance")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("request", overflow="fold")
    for head in ("", *_ROWS, "attack on it", "to reference"):
        table.add_column(head, justify="right")
    for request in facts.requests:
        far = request.distance
        apart = "-" if far is None else _percent(far.divergence_forgotten)
        for when, audit in (("before", request.before), ("after", request.after)):
            values = [_percent(getattr(audit, name)) for name in _ROWS.values()]
            name = request.name if when == "before" else f"  {request.rows:,} rows"
            distance = apart if when == "after" else ""
            table.add_row(name, when, *values, _percent(audit.membership_auc), distance)
    console.print(table)


def deletion_costs(record: Record) -> list[tuple[str, str]]:
    """Name and value of the measure "time of the requests"."""
    own, reference = record.cost.forget_seconds, record.cost.reference_seconds
    if not own:
        return []
    times = ", ".join(map(duration, own))
    if reference:
        times += f"; the reference {', '.join(map(duration, reference))}"
    return [("time of the requests", times)]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
