"""Bind ``strategies/`` and ``scenarios/`` of a checkout as sub-packages of ``clgym``.

In a wheel both folders are inside ``clgym/`` already; in a checkout they are beside it, so that
researchers find them at the top level.
"""

import importlib.util
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
"""Folder of this package; in a wheel it also contains strategies and scenarios."""
ROOT = PACKAGE.parent
"""Parent folder of the package: the root of a checkout, or site-packages."""
MARK = ROOT / "pyproject.toml"
"""File that a checkout has and an installed package has not."""


def bind(*names: str) -> None:
    """Bind each folder beside ``clgym/`` as a sub-package; does nothing in a wheel."""
    if not MARK.is_file():
        return
    for name in names:
        full, init = f"clgym.{name}", ROOT / name / "__init__.py"
        if full in sys.modules or not init.is_file():
            continue
        spec = importlib.util.spec_from_file_location(
            full, init, submodule_search_locations=[str(init.parent)]
        )
        if spec is None or spec.loader is None:
            raise ImportError(f"{init} cannot be loaded as {full}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[full] = module
        spec.loader.exec_module(module)
        setattr(sys.modules["clgym"], name, module)
