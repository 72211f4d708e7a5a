"""Test-time adaptation on generated CIFAR-10-C: records and a table. Resumable: finished runs stay.

    python benchmarks/adaptation_table.py --out runs/adaptation [--images 1000] [--threads 2]

Runs every method on the continual stream of severity 5, and LAME beside the source on streams
whose label mix differs. Records are copied to leaderboards/records/adaptation/, the table and a
plot of the error over time are written beside them. Needs CIFAR-10's test split and the ResNet-20
weights in the data root.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from clgym.record import AdaptationFacts, Record
from clgym.request import Request
from clgym.runner import run

BOARD = Path(__file__).resolve().parents[1] / "leaderboards" / "records" / "adaptation"
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "source": ("source", {}),
    "bn-1": ("bn-1", {}),
    "tent": ("tent", {}),
    "lame-knn": ("lame", {"affinity": "knn"}),
    "lame-rbf": ("lame", {"affinity": "rbf"}),
    "cotta": ("cotta", {}),
    "rmt": ("rmt", {"warmup_images": 10_000}),
    "rmt-source-free": ("rmt", {"warmup_images": 0, "lambda_src": 0.0}),
}
SHIFTS: dict[str, dict[str, Any]] = {
    "iid": {"order": "iid"},
    "dirichlet-1": {"order": "dirichlet", "delta": 1.0},
    "dirichlet-0.1": {"order": "dirichlet", "delta": 0.1},
    "class-sorted": {"order": "grouped"},
}
LABEL_SHIFT = {"batch_size": 64, "corruptions": "gaussian_noise,contrast,pixelate,motion_blur"}


def main() -> None:
    """Run what is not finished, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--images", type=int, default=1000, help="images of each corruption")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--board", type=Path, default=BOARD, help="where records and table go")
    asked = parser.parse_args()
    rows = {}
    for name, (strategy, config) in METHODS.items():
        options = {"images": asked.images}
        rows[name] = one(asked, f"continual-{name}", strategy, "cifar10-c", config, options)
    shifted = {}
    for shift, options in SHIFTS.items():
        for name in ("source", "lame-knn", "lame-rbf"):
            strategy, config = METHODS[name]
            options = {**LABEL_SHIFT, **options, "images": 2 * asked.images}
            shifted[shift, name] = one(
                asked, f"{shift}-{name}", strategy, "label-shift-cifar10", config, options
            )
    text = table(rows) + "\n" + shift_table(shifted)
    (asked.board / "table.md").write_text(text)
    plot(asked, list(METHODS))
    print(text)


def one(
    asked: argparse.Namespace,
    name: str,
    strategy: str,
    scenario: str,
    config: dict[str, Any],
    options: dict[str, Any],
) -> Record:
    """One run's record, kept on the board."""
    print(name, flush=True)
    request = Request(
        strategy,
        scenario,
        strategy_config=config,
        scenario_config=options,
        threads=asked.threads,
        out=asked.out / name,
    )
    record = run(request)
    asked.board.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(asked.out / name / "record.json", asked.board / f"{name}.json")
    return record


def facts(record: Record) -> AdaptationFacts:
    """The adaptation block of a record."""
    assert record.result.adaptation is not None
    return record.result.adaptation


def table(rows: dict[str, Record]) -> str:
    """Online error in % per corruption, and what it took."""
    names = [s.name.rpartition("-")[0] for s in facts(next(iter(rows.values()))).segments]
    lines = [
        f"| method | {' | '.join(names)} | mean | ECE | forward | backward | images/s |",
        f"|---{'|---:' * (len(names) + 5)}|",
    ]
    for name, record in rows.items():
        made = facts(record)
        errors = " | ".join(f"{100 * s.error:.1f}" for s in made.segments)
        calibration = np.mean([s.calibration_error for s in made.segments])
        lines.append(
            f"| {name} | {errors} | {100 * made.mean_error:.1f} | {100 * calibration:.1f} "
            f"| {made.forward_per_image:.1f} | {made.backward_per_image:.1f} "
            f"| {record.cost.images_per_second:.0f} |"
        )
    return "\n".join(lines) + "\n"


def shift_table(shifted: dict[tuple[str, str], Record]) -> str:
    """Online error in % by the order of the labels."""
    shifts = list(dict.fromkeys(shift for shift, _ in shifted))
    methods = list(dict.fromkeys(name for _, name in shifted))
    lines = [f"| method | {' | '.join(shifts)} |", f"|---{'|---:' * len(shifts)}|"]
    for name in methods:
        errors = [100 * facts(shifted[shift, name]).pooled_error for shift in shifts]
        lines.append(f"| {name} | {' | '.join(f'{e:.1f}' for e in errors)} |")
    return "\n".join(lines) + "\n"


def plot(asked: argparse.Namespace, names: list[str]) -> None:
    """Error over the continual stream, a mean over each batch of 200 images."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "clgym"  # the same file for the same records
    figure, axes = pyplot.subplots(figsize=(11, 4))
    segments = 0
    for name in names:
        kept = load_file(asked.out / f"continual-{name}" / "predictions.safetensors")
        segments = sum(key.endswith("/label") for key in kept)
        wrong = [kept[f"{i}/predicted"] != kept[f"{i}/label"] for i in range(segments)]
        errors = [100 * w[at : at + 200].mean() for w in wrong for at in range(0, len(w), 200)]
        places = np.arange(len(errors)) * segments / len(errors)
        axes.plot(places, errors, label=name, linewidth=1)
    for place in range(1, segments):
        axes.axvline(place, color="0.9", zorder=0)
    axes.set(xlabel="corruption", ylabel="online error, %", ylim=(0, 100))
    axes.legend(ncols=4, fontsize=8)
    figure.savefig(asked.board / "error_over_time.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
