"""Print the branch coverage of each room from the measurement that `make coverage` has made.

    python .ci/coverage_by_room.py [ROOM]

A room is a folder of ``clgym/`` or a single file there. What only a worker's process executes is
not measured: it is forked into a sandbox that no measurement leaves. Tests with ``engine="inline"``
count.
"""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

KEYS = ("num_statements", "covered_lines", "num_branches", "covered_branches")


def room_of(path: str) -> str:
    """The folder below clgym/, or the file that stands there by itself; else the plugin folder."""
    parts = Path(path).with_suffix("").parts
    return parts[1] if parts[0] == "clgym" else parts[0]


def summed(files: dict[str, dict]) -> dict[str, list[int]]:
    """Statements, executed ones, branches and taken ones of every room."""
    rooms: dict[str, list[int]] = defaultdict(lambda: [0] * len(KEYS))
    for path, facts in files.items():
        counts = [facts["summary"][key] for key in KEYS]
        rooms[room_of(path)] = [a + b for a, b in zip(rooms[room_of(path)], counts, strict=True)]
    return dict(sorted(rooms.items()))


def percent(part: int, whole: int) -> str:
    """A share in percent, or a dash where there is nothing."""
    return f"{100 * part / whole:5.1f} %" if whole else "      -"


def main(wanted: str | None) -> None:
    """Print the table, or the line of one room."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "coverage.json")
        command = [sys.executable, "-m", "coverage", "json", "-q", "-o", str(report)]
        subprocess.run(command, check=True)
        rooms = summed(json.loads(report.read_text())["files"])
    print(f"{'room':<16}{'statements':>12}{'branches':>12}{'not executed':>16}")
    for room, (statements, executed, branches, taken) in rooms.items():
        if wanted in (None, room):
            shares = percent(executed, statements), percent(taken, branches)
            print(f"{room:<16}{shares[0]:>12}{shares[1]:>12}{statements - executed:>16}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
