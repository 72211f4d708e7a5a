"""Reports of measurements: a table, JSON, and comparison of ratios with an earlier report."""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from clgym.bench.measure import Measurement
from clgym.errors import BadConfig
from clgym.files import write_atomic

__all__ = ["RatioChange", "Report", "compared", "kept_report", "machine"]

TOLERANCE = 1.05
"""Factor by which a ratio may grow before it counts as slower."""


@dataclass(frozen=True)
class Report:
    """All measurements of one call of the bench."""

    machine: Mapping[str, object]
    """Processor, cores, versions, device, threads, and the load while it was measured."""
    measurements: tuple[Measurement, ...]

    def to_json(self) -> str:
        """Return the text that `kept_report` reads."""
        rows = [one.to_tree() for one in self.measurements]
        return json.dumps({"machine": dict(self.machine), "measurements": rows}, indent=1) + "\n"

    def to_markdown(self) -> str:
        """Return a table, with the machine below."""
        head = "| what | clgym | other | ratio | middle half | compared with |"
        lines = [head, "|---|---:|---:|---:|---|---|"]
        for one in self.measurements:
            lines.append(
                f"| {one.name} | {_number(one.ours)} {one.unit} | {_number(one.theirs)} {one.unit} "
                f"| {one.ratio:.3f} | {one.low:.3f} to {one.high:.3f} | {one.rival} |"
            )
        facts = "; ".join(f"{key}: {value}" for key, value in self.machine.items())
        return "\n".join([*lines, "", facts, ""])

    def save(self, folder: Path) -> None:
        """Write ``speed.md`` and ``speed.json``."""
        text = (
            "# Speed\n\nThe cost of clgym's own work, by `clgym bench`: medians over rounds in "
            "which both sides run in turn,\nin processor time. The ratio is clgym's cost divided "
            "by the other's; absolute times are this machine's.\n"
            "`clgym bench --compare` compares ratios with those of `speed.json`.\n\n"
        )
        write_atomic(folder / "speed.md", (text + self.to_markdown()).encode())
        write_atomic(folder / "speed.json", self.to_json().encode())


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def machine(device: str, threads: int, quick: bool, load: float) -> dict[str, object]:
    """Facts about this machine and the options of the measurement; no host name, user or path."""
    import os

    import torch

    from clgym.gym.environment import package_versions

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else ""
    return {
        "device": f"{device} {name}".strip(),
        "threads": threads,
        "cores": os.cpu_count(),
        "processor": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **package_versions(),
        "quick": quick,
        "load at the end": round(load, 1),
    }


def kept_report(path: Path) -> Report:
    """Read what `Report.to_json` has written.

    Raises:
        BadConfig: The file holds something else.
    """
    names = {field.name for field in fields(Measurement)}
    try:
        tree = json.loads(path.read_text())
        rows = tuple(Measurement(**row) for row in tree["measurements"])
        if any(asdict(row).keys() != names or not row.ratio > 0 for row in rows):
            raise ValueError("a measurement without a ratio")
        return Report(tree["machine"], rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadConfig(
            expected=f"{path.name} to hold measurements of `clgym bench --json`",
            found=getattr(error, "strerror", None) or f"{type(error).__name__}: {error}",
            fix="Give --compare such a file",
        ) from None


@dataclass(frozen=True)
class RatioChange:
    """Ratio of a measurement, compared with the stored one of the same name and rival."""

    name: str
    rival: str
    kept: float
    """Ratio of the earlier report."""
    now: float
    """Ratio of the new measurement."""
    verdict: str
    """``slower`` or ``faster`` if the interquartile ranges do not overlap and the ratio differs by
    more than the tolerance; ``same`` otherwise.
    """


def compared(now: Report, kept: Report) -> tuple[list[RatioChange], list[str]]:
    """Differences of ratios, not of times, and names of earlier cases that were not measured."""
    known = {(one.name, one.rival): one for one in kept.measurements}
    found = []
    for one in now.measurements:
        before = known.pop((one.name, one.rival), None)
        if before is not None:
            verdict = _verdict(one, before)
            found.append(RatioChange(one.name, one.rival, before.ratio, one.ratio, verdict))
    return found, [f"{name} ({rival})" for name, rival in known]


def _verdict(now: Measurement, kept: Measurement) -> str:
    if now.low > kept.high and now.ratio > kept.ratio * TOLERANCE:
        return "slower"
    if now.high < kept.low and now.ratio * TOLERANCE < kept.ratio:
        return "faster"
    return "same"
