"""Golden vectors: numbers computed once by the authors' own code, checked through the public code.

A test module names its family and marks each test with the files that it uses::

    FAMILY = ("nmc_",)                     # prefixes of file names

    @pytest.mark.golden("nmc_classinc*")   # patterns of file stems
    def test_class_incremental(golden):    # runs once for each file that fits
        golden["x_train"]                  # an array of the file
        golden.group("vit.")               # {key without the prefix: array}
        golden.sibling("nmc_online")       # another file of the folder

A file of the family that no mark covers fails the module's first golden test, so that new vectors
are never passed over in silence. Without a folder (``--golden DIR``, else ``CLGYM_GOLDEN``) every
golden test is skipped with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


class Golden(Mapping[str, np.ndarray]):
    """One file of vectors: a read-only mapping from names to arrays."""

    def __init__(self, path: Path):
        self.path = path
        self.name = path.stem
        self._file = np.load(path, allow_pickle=False)

    def __getitem__(self, key: str) -> np.ndarray:
        return self._file[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.files)

    def __len__(self) -> int:
        return len(self._file.files)

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays whose names start with ``prefix``, named without it."""
        return {key[len(prefix) :]: self[key] for key in self if key.startswith(prefix)}

    def sibling(self, name: str) -> Golden:
        """The file ``name`` (without .npz) of the same folder."""
        return Golden(self.path.with_name(f"{name}.npz"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", metavar="DIR", help="folder of golden vectors")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "golden(*stems): runs once for each golden file that fits")


def golden_files(config: pytest.Config, *prefixes: str) -> list[Path]:
    """The files of a family, in order of name; empty where there is no folder."""
    folder = config.getoption("--golden", None) or os.environ.get("CLGYM_GOLDEN")
    if not folder or not Path(folder).is_dir():
        return []
    return sorted(path for path in Path(folder).glob("*.npz") if path.name.startswith(prefixes))


def marked_patterns(module: ModuleType) -> dict[str, tuple[str, ...]]:
    """Test function of ``module`` -> patterns of its ``golden`` mark, in order of definition."""
    marks = {
        name: mark
        for name, value in vars(module).items()
        for mark in getattr(value, "pytestmark", ())
        if name.startswith("test") and mark.name == "golden"
    }
    return {name: mark.args for name, mark in marks.items()}


def fits(path: Path, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path.stem, pattern) for pattern in patterns)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden" not in metafunc.fixturenames:
        return
    assert metafunc.module is not None
    family = golden_files(metafunc.config, *metafunc.module.FAMILY)
    if not family:
        reason = f"no golden vectors {metafunc.module.FAMILY}: set CLGYM_GOLDEN or --golden DIR"
        skipped = pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")
        metafunc.parametrize("golden", [skipped], indirect=True)
        return
    patterns = marked_patterns(metafunc.module)
    name = metafunc.function.__name__
    files = [path for path in family if fits(path, patterns[name])]
    if name == next(iter(patterns)):
        every_pattern = tuple(pattern for marked in patterns.values() for pattern in marked)
        files += [path for path in family if not fits(path, every_pattern)]
    metafunc.parametrize("golden", files, indirect=True, ids=[path.stem for path in files])


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    patterns = marked_patterns(request.module)[request.function.__name__]
    if not fits(request.param, patterns):
        pytest.fail(f"{request.param.name}: no test of {request.module.__name__} knows this file")
    return Golden(request.param)
