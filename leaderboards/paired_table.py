"""Print a table of committed runs, each method paired by seed with the plain one, and its cost.

    python leaderboards/paired_table.py plugins --against replay derpp

Rows are the folders of `records/` that begin with the prefix. A method is compared with the one
that its name begins with, or all with the only one that is named: the mean difference of the last
accuracy over common seeds, with the 95 % interval of Student's t. Images and floating-point
operations are those of training.
"""

import argparse
from pathlib import Path
from statistics import mean, stdev

from clgym.results.compare import over_seeds
from clgym.results.grouping import seeds_of
from clgym.results.layout import run_folders
from clgym.results.stored import StoredRun, open_run

RECORDS = Path(__file__).resolve().parent / "records"
HEAD = (
    "| method | last accuracy, % | average, % | against the plain one, points | images, thousands "
    "| TFLOP | CPU s | seeds |\n|---|---:|---:|---:|---:|---:|---:|---:|"
)


def runs_of(prefix: str) -> dict[str, dict[object, StoredRun]]:
    """Runs by method, the prefix cut off, and by seed and class order."""
    found: dict[str, dict[object, StoredRun]] = {}
    for folder in sorted(RECORDS.glob(f"{prefix}-*")):
        runs = [open_run(place) for place in run_folders(folder)]
        found[folder.name.removeprefix(f"{prefix}-")] = {seeds_of(r.result): r for r in runs}
    return found


def row(name: str, runs: dict[object, StoredRun], plain: dict[object, StoredRun] | None) -> str:
    """One method as a line of Markdown."""
    results = [run.result for run in runs.values()]
    last = [100 * result.last_accuracy for result in results]
    average = mean(100 * (result.average_incremental_accuracy or 0.0) for result in results)
    spread = f" ± {stdev(last):.2f}" if len(last) > 1 else ""
    costs = [run.record.cost for run in runs.values()]
    images = mean(cost.train_images for cost in costs) / 1000
    operations = mean(sum(value or 0.0 for value in cost.train_flops) for cost in costs) / 1e12
    seconds = mean(cost.cpu_seconds or 0.0 for cost in costs)
    against = "" if plain is None else difference(runs, plain)
    return (
        f"| {name} | {mean(last):.2f}{spread} | {average:.2f} | {against} | {images:.1f} "
        f"| {operations:.2f} | {seconds:.0f} | {len(last)} |"
    )


def difference(runs: dict[object, StoredRun], plain: dict[object, StoredRun]) -> str:
    """Mean difference to the plain method over common seeds, with its interval."""
    common = [seeds for seeds in runs if seeds in plain]
    sides = ([side[seeds].result.last_accuracy for seeds in common] for side in (runs, plain))
    found = over_seeds(*sides)
    if found.low is None or found.high is None:
        return f"{100 * found.mean:+.2f}"
    return f"{100 * found.mean:+.2f} [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"


def plain_of(name: str, against: list[str]) -> str:
    """Name of the method that another one is compared with; empty if there is none."""
    fitting = [p for p in against if name.startswith(f"{p}-") or len(against) == 1]
    return next((plain for plain in fitting if plain != name), "")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Print a table of committed runs, paired by seed.")
    parser.add_argument("prefix", help="beginning of the folders' names")
    parser.add_argument("--against", nargs="*", default=[], metavar="METHOD")
    given = parser.parse_args()
    methods = runs_of(given.prefix)
    print(HEAD)
    for name, runs in methods.items():
        print(row(name, runs, methods.get(plain_of(name, given.against))))


if __name__ == "__main__":
    main()
