"""Golden vectors: numbers computed once by the authors' own code, checked through the public code.

A test module names its family and marks each test with the files that it uses::

    FAMILY = ("nmc_",)                     # prefixes of file names

    @pytest.mark.golden("nmc_classinc*")   # patterns of file stems
    def test_class_incremental(golden):    # runs once for each file that fits
        golden["x_train"]                  # an array of the file
        golden.group("vit.")               # {key without the prefix: array}
        golden.sibling("nmc_online")       # another file of the folder

Every size comes from the file: its named entries, else the shapes of its arrays. Where numbers have
a closed form, NumPy (``oracles/``) writes a file of the same layout and of random sizes, and the
same test is called with it: ``written("nmc_other", **arrays)`` is such a file.

A file of the family that no mark covers fails the module's first golden test, so that new vectors
are never passed over in silence. Without a folder (``--golden DIR``, else ``CLGYM_GOLDEN``) every
golden test is skipped with the reason.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ORACLES = Path(__file__).with_name("oracles")


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

    def number(self, key: str, default: float) -> float:
        """A single number of the file, or the method's own where the file has none."""
        return float(self[key]) if key in self else default

    def count(self, prefix: str) -> int:
        """How many members 0, 1, 2, ... a numbered group ``prefix`` has."""
        found = (key.removeprefix(prefix) for key in self if key.startswith(prefix))
        digits = (re.match(r"\d+", rest) for rest in found)
        return 1 + max((int(match[0]) for match in digits if match), default=-1)

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


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Golden]:
    """Writes arrays as a golden file of the test's own folder."""

    def write(name: str, **arrays: Any) -> Golden:
        np.savez(tmp_path / f"{name}.npz", **arrays)
        return Golden(tmp_path / f"{name}.npz")

    return write


@pytest.fixture(scope="session")
def oracles() -> Any:
    """The methods' closed forms in NumPy, imported by their path: tests/ is no package."""
    start, places = ORACLES / "__init__.py", [str(ORACLES)]
    spec = importlib.util.spec_from_file_location(
        "golden_oracles", start, submodule_search_locations=places
    )
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def backbone_name(tmp_path: Path) -> Callable[[Mapping[str, np.ndarray]], str]:
    """Names the tiny ViT of a file as a backbone: its arguments follow from entries and shapes."""

    def name(golden: Any) -> str:
        from safetensors.torch import save_file
        from torch import from_numpy

        vit = golden.group("vit.")
        file = tmp_path / "vit.safetensors"
        save_file({key: from_numpy(value.copy()) for key, value in vit.items()}, file)
        size, patch, width, depth, heads = golden["vit_config"].tolist()
        arguments = {
            "img_size": size,
            "patch_size": patch,
            "embed_dim": width,
            "depth": depth,
            "num_heads": heads,
            "in_chans": vit["patch_embed.proj.weight"].shape[1],
            "mlp_ratio": len(vit["blocks.0.mlp.fc1.bias"]) / width,
        }
        pairs = ",".join(f"{key}={value}" for key, value in arguments.items())
        return f"vit_tiny_patch16_224[{pairs}]@{file}"

    return name
