"""Figures of every kind, drawn from the board's records by `clgym plot`, with their commands."""

from pathlib import Path

from clgym.cli import main as clgym

__all__ = ["write"]

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "leaderboards" / "records"

_STUDIES = ("naive-lite-c50-*", "avalanche-LwF-lite-c50-*", "nmc-lite-c50-*", "replay-lite-c50-*")
_REPLAY = ("replay-lite-c50-*",)
_ADAPTED = ("bn-1-cifar10-c-*", "tent-cifar10-c-*", "cotta-cifar10-c-*")

FIGURES = {
    "anytime": ("Accuracy after each experience: one dot per seed, with a band.", _STUDIES),
    "last-accuracy": ("Last accuracy, with 95 % intervals of the mean.", _STUDIES),
    "forgetting": ("Forgetting of each method.", _STUDIES),
    "accuracy-matrix": ("Accuracy after each experience on each experience.", _REPLAY),
    "task-accuracy": ("Accuracy on each experience while others arrive.", _REPLAY),
    "confusion-matrix": (
        "Predicted classes of each true class, after the last experience.",
        _REPLAY,
    ),
    "accuracy-against-cost": ("Accuracy against the time of all runs, tuning included.", _STUDIES),
    "rank-shift": ("Tuning rank against evaluation rank.", _STUDIES),
    "expected-best": ("Expected best tuning score against the number of trials.", _STUDIES),
    "error-over-time": ("Online error along a stream of corrupted images.", _ADAPTED),
}
"""For each kind of figure: a sentence, and the records that it is drawn from."""

INTRODUCTION = """# Gallery

Figures that `clgym plot` draws, each from records of the board, with its command. `--format pdf`
writes them for LaTeX, `--size single-column` in a column's width;
[the first tutorial](../newcomers-day.md) draws one from runs of your own. The same records give
the same bytes.

The studies shown here are small (300 training images a class, a small network): they show the
figures and say nothing about the methods on full data.
"""


def write(target: Path) -> None:
    """Draw all figures and write the page, ``index.md``."""
    target.mkdir(parents=True, exist_ok=True)
    parts = [INTRODUCTION]
    for kind, (sentence, patterns) in FIGURES.items():
        folders = [next(iter(sorted(RECORDS.glob(pattern)))) for pattern in patterns]
        words = ["plot", *map(str, folders), "--kind", kind, "--out", str(target)]
        if clgym(words):
            raise SystemExit(f"clgym {' '.join(words)} failed")
        shown = " \\\n    ".join(f"leaderboards/records/{folder.name}" for folder in folders)
        parts += [
            f"## {kind}\n",
            f"{sentence}\n",
            f"![{sentence}]({kind}.svg){{ .figure }}\n",
            f"```text\nclgym plot {shown} \\\n    --kind {kind} --out figures\n```\n",
        ]
    target.joinpath("index.md").write_text("\n".join(parts))
