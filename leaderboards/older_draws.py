"""List the committed runs that were made with the draws of an earlier release, and their cost.

    python leaderboards/older_draws.py > leaderboards/older-draws.md

Their numbers are true and verify. Repeated today, such a run ends with other numbers wherever
something was drawn; `clgym.draws.other_draws` says which release draws otherwise.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from clgym.draws import other_draws
from clgym.protocol.study import CERTIFICATE, read_certificate
from clgym.results.layout import RECORD
from clgym.results.record import Record
from clgym.results.stored import open_run

HERE = Path(__file__).resolve().parent
HEAD = """\
# Runs to be made anew

Written by `python leaderboards/older_draws.py > leaderboards/older-draws.md`; do not edit.

clgym 0.2 draws its random numbers otherwise than clgym 0.1 (see CHANGELOG.md). The runs below were
made with the draws of an earlier release. What they state is true, and `clgym verify` confirms it;
repeated today, such a run ends with other numbers wherever something was drawn.

To make one anew, give the command that `clgym show FOLDER` prints, `clgym reproduce PAPER ROW` for
the claim of a paper, or `clgym tune` and `clgym evaluate` for a study; then replace the folder.
"""


def entries() -> Iterator[tuple[Path, list[Record]]]:
    """Each folder of records/ with the records in it that were made with other draws."""
    for folder in sorted((HERE / "records").iterdir()):
        found = [open_run(file.parent).record for file in sorted(folder.rglob(RECORD))]
        older = [record for record in found if other_draws(record.environment.clgym)]
        if older:
            yield folder, older


def row(folder: Path, records: list[Record]) -> str:
    """A row of the table."""
    first, minutes = records[0], sum(record.cost.wall_seconds for record in records) / 60
    devices = Counter(r.environment.device_name or r.environment.device for r in records)
    study = read_certificate(folder).body.plan if (folder / CERTIFICATE).is_file() else None
    cells = (
        f"`{folder.name}`",
        first.result.strategy.label,
        f"{study.pair.name} (study)" if study else first.result.scenario.name,
        str(len(records)),
        f"{minutes:.1f}",
        ", ".join(sorted(devices)),
        ", ".join(sorted({record.environment.clgym for record in records})),
    )
    return f"| {' | '.join(cells)} |"


def page() -> str:
    """The whole page."""
    found = list(entries())
    runs = [record for _, records in found for record in records]
    hours = sum(record.cost.wall_seconds for record in runs) / 3600
    total = (
        f"{len(found)} folders, {len(runs)} runs, {hours:.1f} hours in all, as they were measured."
    )
    table = "| Folder | Method | Scenario | Runs | Minutes | Device | clgym |"
    rule = "| --- | --- | --- | --: | --: | --- | --- |"
    return "\n".join([HEAD, total, "", table, rule, *(row(*entry) for entry in found)])


if __name__ == "__main__":
    print(page())
