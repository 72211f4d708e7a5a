"""Import names that plugins written for clgym 0.1 use, and the modules that they mean today."""

import importlib
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

__all__ = ["MOVED", "install"]

MOVED = {
    "clgym.adaptation.learner": "clgym.learner.adaptation",
    "clgym.adaptation.orders": "clgym.streams.orders",
    "clgym.adaptation.strategy": "clgym.adaptation",
    "clgym.adaptation.stream": "clgym.streams.adaptation",
    "clgym.adaptation.two_phases": "clgym.streams.two_phases",
    "clgym.record": "clgym.results.record",
    "clgym.trained": "clgym.learner.trained",
}


class _MovedFinder:
    """Gives the module of today under its old name: one module, two names.

    Finder and loader in one, without their base classes, which take a tenth of `clgym --help`.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        known = fullname in MOVED
        loader: Any = self
        return importlib.machinery.ModuleSpec(fullname, loader) if known else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        # What stands in sys.modules when this returns is what the import statement gets.
        sys.modules[module.__name__] = importlib.import_module(MOVED[module.__name__])


def install() -> None:
    """Let the old names be imported; asked last, so that nothing else becomes slower."""
    if not any(isinstance(finder, _MovedFinder) for finder in sys.meta_path):
        finder: Any = _MovedFinder()
        sys.meta_path.append(finder)
