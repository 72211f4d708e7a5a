"""Print the branch coverage of each room from the measurement that `make coverage` has made.

    python .ci/coverage/by_room.py [--processes FOLDER] [ROOM]

A room is a folder of ``clgym/`` or a single file there. What the processes of clgym executed is
added from the folder where `sitecustomize.py` put it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import zlib
from collections import defaultdict
from pathlib import Path

from coverage import CoverageData
from coverage.exceptions import DataError

KEYS = ("num_statements", "covered_lines", "num_branches", "covered_branches")


def add_processes(folder: Path) -> None:
    """Add the measurements in a folder, one file a process, to the one of the tests."""
    arcs: dict[str, set[tuple[int, int]]] = defaultdict(set)
    incomplete = 0
    for path in folder.iterdir():
        measured = CoverageData(no_disk=True)
        try:
            measured.loads(path.read_bytes())
        except (zlib.error, DataError):  # of a process that was killed
            incomplete += 1
            continue
        for name in measured.measured_files():
            arcs[name].update(measured.arcs(name) or ())
    tests = CoverageData()
    tests.read()
    tests.add_arcs(arcs)
    tests.write()
    print(f"{incomplete} processes were killed before they wrote what they had executed")


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


def main() -> None:
    """Print the table, or the line of one room."""
    parser = argparse.ArgumentParser()
    parser.add_argument("room", nargs="?")
    parser.add_argument("--processes", type=Path)
    options = parser.parse_args()
    if options.processes:
        add_processes(options.processes)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "coverage.json")
        command = [sys.executable, "-m", "coverage", "json", "-q", "-o", str(report)]
        subprocess.run(command, check=True)
        rooms = summed(json.loads(report.read_text())["files"])
    print(f"{'room':<16}{'statements':>12}{'branches':>12}{'not executed':>16}")
    for room, (statements, executed, branches, taken) in rooms.items():
        if options.room in (None, room):
            shares = percent(executed, statements), percent(taken, branches)
            print(f"{room:<16}{shares[0]:>12}{shares[1]:>12}{statements - executed:>16}")


if __name__ == "__main__":
    main()
