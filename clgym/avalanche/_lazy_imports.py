"""Import Avalanche without those of its dependencies that clgym does not use.

``import avalanche`` loads what a few of its parts use: jax (one solver among many of qpsolvers),
qpsolvers itself (GEM), wandb and torchmetrics (one metric each), matplotlib (figures of metrics),
gdown (one data set), GPUtil (one metric). Together they take twice as long as torch itself. Here
jax is hidden from qpsolvers, which then does without that solver; the others are loaded when they
are used.
"""

import contextlib
import importlib
import importlib.abc
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, MutableSequence, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["install"]

_HIDDEN = ("jax", "jaxopt")
_LATE = (
    *("wandb", "torchmetrics", "torchmetrics.functional", "qpsolvers", "gdown", "GPUtil"),
    *("matplotlib", "matplotlib.axes", "matplotlib.figure", "matplotlib.pyplot"),
)


def install() -> None:
    """Make the first import of Avalanche skip unused dependencies; later calls do nothing."""
    if "avalanche" not in sys.modules and not any(
        isinstance(f, _LazyFinder) for f in sys.meta_path
    ):
        sys.meta_path.insert(0, _LazyFinder())


class _LazyFinder(importlib.abc.MetaPathFinder):
    """Import finder of the package ``avalanche`` only; it removes itself on its first use."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "avalanche":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


@contextlib.contextmanager
def _another_home() -> Iterator[None]:
    """Set HOME to a temporary folder, since Avalanche opens a file there and sandboxes refuse."""
    before = os.environ.get("HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder
        try:
            yield
        finally:
            os.environ.pop("HOME")
            if before is not None:
                os.environ["HOME"] = before


class _Loader(importlib.abc.Loader):
    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        late = {name: _Late(name) for name in _LATE if name.partition(".")[0] not in sys.modules}
        with _in_place_of({**dict.fromkeys(_HIDDEN), **late}), _another_home():
            self._real.exec_module(module)


@contextlib.contextmanager
def _in_place_of(replaced: Mapping[str, ModuleType | None]) -> Iterator[None]:
    """Let imports find these modules unless the real ones are loaded; None hides a module."""
    placed = {name: stub for name, stub in replaced.items() if name not in sys.modules}
    sys.modules.update(placed)  # type: ignore[arg-type]  # None is the documented way to hide
    try:
        yield
    finally:
        for name, stub in placed.items():
            if sys.modules.get(name, stub) is stub:
                sys.modules.pop(name, None)


class _Late(ModuleType):
    """Placeholder of a module, whose attributes import the real module when they are called."""

    __path__: MutableSequence[str] = []  # this attribute makes a module a package

    def __getattr__(self, name: str) -> Any:
        if name == "__version__":
            return importlib.import_module(self.__name__).__version__
        if name.startswith("__"):
            raise AttributeError(name)
        return _Name(self.__name__, (name,))


class _Name:
    """Placeholder of a dotted name in a module that is not loaded yet."""

    def __init__(self, module: str, parts: tuple[str, ...]) -> None:
        self._module, self._parts = module, parts

    def __getattr__(self, name: str) -> "_Name":
        return _Name(self._module, (*self._parts, name))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._real()(*args, **kwargs)

    def __instancecheck__(self, instance: object) -> bool:
        """Whether the module is loaded and the object is an instance of its class."""
        return self._module.partition(".")[0] in sys.modules and isinstance(instance, self._real())

    def _real(self) -> Any:
        """Import the module, and return the object of this name."""
        with _in_place_of(dict.fromkeys(_HIDDEN)):
            found: Any = importlib.import_module(self._module)
            path = self._module
            for part in self._parts:
                path = f"{path}.{part}"
                if isinstance(found, ModuleType) and not hasattr(found, part):
                    importlib.import_module(path)
                found = getattr(found, part)
        return found
