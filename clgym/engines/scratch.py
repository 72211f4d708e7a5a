"""Folders for the temporary files of workers, in the system's folder for temporary files.

A process that is killed leaves its folders; the next one on the same machine deletes them.
"""

import contextlib
import functools
import os
import re
import shutil
import tempfile
from pathlib import Path

from clgym.files import host_name

__all__ = ["make_scratch"]


def make_scratch() -> Path:
    """Make an empty folder, whose name states host and process."""
    _clear_left()
    return Path(tempfile.mkdtemp(prefix=f"clgym-{host_name()}-{os.getpid()}-")).resolve()


@functools.cache
def _clear_left() -> None:
    """Delete folders whose process has ended, once in a process."""
    name = re.compile(rf"clgym-{host_name()}-(\d+)-[^-]*")
    with contextlib.suppress(OSError):
        for folder in Path(tempfile.gettempdir()).glob("clgym-*"):
            found = name.fullmatch(folder.name)
            if found and not _lives(int(found[1])):
                shutil.rmtree(folder, ignore_errors=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OverflowError, PermissionError):
        pass
    return True
