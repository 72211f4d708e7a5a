"""Measure what clgym's own processes execute: commands, the fork server and its workers.

Python imports this file at start when its folder is on ``PYTHONPATH``. A worker enters a sandbox
that writes no file of a measurement, so the file is opened before that, and written when the worker
ends. A process that is killed leaves no measurement. pytest's processes measure themselves.
"""

import atexit
import contextlib
import itertools
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = os.environ.get("MEASURED_PROCESSES")
"""Folder of the measurements, one file a process."""


def measure(folder: str) -> None:
    """Measure this process, and those that it forks each by itself."""
    from coverage import Coverage

    home = Path(__file__).resolve().parents[2]
    rooms = [str(home / room / "*") for room in ("clgym", "strategies", "scenarios")]
    coverage = Coverage(data_file=None, branch=True, include=rooms, config_file=False)
    leave = os._exit
    files = []

    def begin() -> None:
        files.append(tempfile.mkstemp(dir=folder)[0])

    def finish() -> None:
        coverage.stop()
        with os.fdopen(files.pop(), "wb") as file:
            file.write(coverage.get_data().dumps())

    def finish_and_leave(code: int) -> None:
        try:
            finish()
        finally:
            leave(code)

    add_hook = sys.addaudithook

    def add_traced(hook: Any) -> None:  # Python traces no other audit hooks
        with contextlib.suppress(AttributeError):  # of a method
            hook.__cantrace__ = True
        add_hook(hook)

    begin()
    os.register_at_fork(after_in_child=begin)
    os._exit = finish_and_leave  # type: ignore[assignment]
    atexit.register(finish)
    sys.addaudithook = add_traced
    coverage.start()


def runs_clgym(arguments: list[str]) -> bool:
    """Whether a command line is ``python -m clgym...`` or the command ``clgym``."""
    for before, word in itertools.pairwise(arguments):
        if before == "-m":
            return word.partition(".")[0] == "clgym"
        if not word.startswith("-"):
            return Path(word).name == "clgym"
    return False


if FOLDER and runs_clgym(sys.orig_argv):
    measure(FOLDER)
