"""Everything that a plugin depends on besides its files: clgym, libraries, environment.

A plugin that has read equal files in two processes with equal surroundings behaves the same in
both.
"""

import functools
import hashlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from clgym._checkout import PACKAGE
from clgym._version import __version__

__all__ = ["VISIBLE", "is_visible", "surroundings"]

VISIBLE = frozenset(
    {
        *("CLGYM_CACHE", "CLGYM_CACHE_GB", "CLGYM_DATA", "CLGYM_WITHHELD"),
        *("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TORCH_HOME"),
        *("HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV"),
        *("JOBLIB_MULTIPROCESSING", "LD_LIBRARY_PATH", "PYTHONHASHSEED", "PYTHONPATH"),
        "SYSTEMROOT",
    }
)
"""Environment variables that a plugin sees in a worker, besides those in `is_visible`."""
_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "CUBLAS_", "OMP_", "MKL_", "OPENBLAS_", "XDG_")


def is_visible(variable: str) -> bool:
    """Whether a plugin in a worker sees an environment variable of the gym's process."""
    return variable in VISIBLE or variable.startswith(_PREFIXES)


def surroundings(environment: Mapping[str, str] = os.environ) -> list[object]:
    """Versions, code and settings, as plain data in a fixed order."""
    return [
        __version__,
        sys.version,
        sys.executable,
        _code(),
        sorted(_distributions()),
        sorted(item for item in environment.items() if is_visible(item[0])),
    ]


def _code() -> str:
    """SHA-256 of clgym's own files, including strategies and scenarios."""
    plugins = [importlib.import_module(f"clgym.{name}") for name in ("strategies", "scenarios")]
    folders = [str(PACKAGE), *(path for package in plugins for path in package.__path__)]
    total = hashlib.sha256()
    for path in sorted({path for folder in folders for path in _python_files(folder)}):
        about = os.stat(path)  # noqa: PTH116  # of 400 files: a Path for each takes a third longer
        digest = _sha256(path, (about.st_mtime_ns, about.st_size, about.st_ino))
        total.update(f"{path}\n{digest}\n".encode())
    return total.hexdigest()


def _python_files(folder: str) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        yield from (f"{place}{os.sep}{name}" for name in names if name.endswith(".py"))


@functools.lru_cache(maxsize=2048)
def _sha256(path: str, version: tuple[int, int, int]) -> str:
    """Cached SHA-256 of a file; ``version`` distinguishes a changed file from the one read."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _distributions() -> Iterator[tuple[str, int]]:
    """Names of the metadata of installed packages, which contain versions, with modification times.

    Asking `importlib.metadata` for versions takes ten times as long.
    """
    for folder in dict.fromkeys(sys.path):
        try:
            found = list(os.scandir(folder or "."))
        except OSError:
            continue
        for entry in found:
            if entry.name.endswith((".dist-info", ".egg-info")):
                yield entry.name, entry.stat().st_mtime_ns
