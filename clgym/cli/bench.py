"""Measure speed and memory against a bare loop and against Avalanche, on this machine.

Both sides of a measurement run in turn, and the result is the ratio of their processor times, so
that other work on the machine has little influence. `--quick` takes about a minute, the whole about
a quarter of an hour.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clgym.cli._parser import Parser, Several

if TYPE_CHECKING:
    from clgym.bench.measure import Measurement
    from clgym.bench.report import Report

__all__ = ["main"]

KINDS = ("learning", "adaptation", "features", "programs")
GROWTH = (
    "experiences",
    "classes",
    "networks",
    "test-images",
    "training-images",
    "memory",
    "trials",
    "records",
)


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym bench``."""
    parser = _parser()
    values = parser.parse(words)
    if values.threads < 1:
        parser.error("--threads: at least one thread")
    if values.rounds is not None and values.rounds < 1:
        parser.error("--rounds: at least one round")
    if values.growth is not None:
        return _show_growth(values.growth or list(GROWTH), values.quick, values.json)
    from clgym.bench.report import kept_report
    from clgym.bench.suite import measure
    from clgym.files import writing

    kept = None if values.compare is None else kept_report(values.compare)
    if values.save is not None:
        with writing(values.save):  # before the measurements, which take minutes
            values.save.mkdir(parents=True, exist_ok=True)
    report = measure(
        values.only,
        device=values.device,
        threads=values.threads,
        quick=values.quick,
        rounds=values.rounds,
        on_measured=_ignore if values.json else _show,
    )
    if values.save is not None:
        report.save(values.save)
    print(report.to_json() if values.json else f"\n{report.to_markdown()}", end="")
    return 0 if kept is None else _compare(report, kept)


def _parser() -> Parser:
    parser = Parser("clgym bench", __doc__)
    parser.add_argument(
        "--quick", action="store_true", help="Fewer rounds over less work: about a minute."
    )
    parser.add_argument(
        "--only",
        action=Several,
        known=KINDS,
        default=list(KINDS),
        metavar="KIND",
        help=f"Kinds of measurements: {', '.join(KINDS)}. (default: all)",
    )
    parser.add_argument(
        "--growth",
        nargs="*",
        choices=GROWTH,
        metavar="QUANTITY",
        help="Measure instead how the cost of a command grows with its size, and print exponents: "
        f"{', '.join(GROWTH)}. (default: all)",
    )
    parser.add_argument("--device", default="cpu", help="Device: cpu, cuda, cuda:1. (default: cpu)")
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="Number of torch threads. (default: 1)"
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="Number of rounds of steps. (default: 15; quick: 4)"
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="DIR",
        help="Folder to which speed.md and speed.json are written.",
    )
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="FILE",
        help="File of an earlier --json or --save, whose ratios are compared with the new ones; "
        "the exit code is 1 if one of them has become slower. Times are not compared.",
    )
    parser.add_argument("--json", action="store_true", help="Print only the figures, as JSON.")
    return parser


def _show_growth(quantities: Sequence[str], quick: bool, as_json: bool) -> int:
    """Print sizes, seconds and exponents."""
    import json

    from clgym.bench.growth import grown
    from clgym.check.tiny import workspace

    found = []
    for name in quantities:
        with workspace() as folder:
            one = grown(name, folder, 4 if quick else 1)
        found.append(one.to_tree())
        if not as_json:
            pairs = zip(one.sizes, one.seconds, strict=True)
            costs = ", ".join(f"{size:,}: {seconds:.1f} s" for size, seconds in pairs)
            how = "grows irregularly" if one.grows else "hardly grows"
            if one.exponent is not None:
                how = f"exponent {one.exponent:.2f}"
            print(f"{one.quantity}: {how} ({costs})", flush=True)
    if as_json:
        print(json.dumps(found, indent=1))
    return 0


def _ignore(measured: "Measurement") -> None:
    """Show nothing: with --json only the report is printed."""


def _show(measured: "Measurement") -> None:
    print(f"{measured.ratio:7.3f} x {measured.rival}: {measured.name}", flush=True)


def _compare(report: "Report", kept: "Report") -> int:
    """Print the differences; return 1 if a measurement has become slower, else 0."""
    import sys

    from clgym.bench.report import compared

    differences, missing = compared(report, kept)
    for one in differences:
        line = f"{one.verdict:6} {one.kept:.3f} -> {one.now:.3f} x {one.rival}: {one.name}"
        print(line, file=sys.stderr)
    for name in missing:
        print(f"not measured: {name}", file=sys.stderr)
    return 1 if any(one.verdict == "slower" for one in differences) else 0
