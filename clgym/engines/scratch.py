"""Folders for temporary files of workers, in the system's folder for temporary files.

A process that is killed leaves its folders; the next one on the same machine deletes them. Each
folder is locked while its worker runs: the system ends the lock of a killed process, also of one in
another container.
"""

import contextlib
import fcntl
import functools
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["Scratch"]

_PREFIX = "clgym-scratch-"


class Scratch:
    """An empty folder, which exists until it is closed.

    Attributes:
        folder: Its path, without symbolic links.
    """

    def __init__(self) -> None:
        """Make the folder, and delete those that killed processes left."""
        _clear_left()
        self.folder, self._lock = _locked_folder()

    def close(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def _locked_folder() -> tuple[Path, int]:
    """Make a folder that no other process deletes; return it with the descriptor of its lock.

    A new folder has no lock for a moment, in which a process that just began may take it for one
    that was left: then it is gone when the lock is ours, and another one is made.
    """
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_SH)
            if folder.exists():
                return folder, lock
            os.close(lock)


@functools.cache
def _clear_left() -> None:
    """Delete folders that nobody holds, once in a process."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # of another user, or in use
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
