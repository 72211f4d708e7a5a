"""clgym: a benchmark gym for continual learning whose numbers can be believed.

The import itself loads neither torch nor plugins: they are loaded when they are used.
"""

from typing import TYPE_CHECKING, Any

from clgym._checkout import bind
from clgym._moved import install
from clgym._version import __version__

if TYPE_CHECKING:
    from clgym.api import (
        check_scenario,
        check_source,
        check_strategy,
        compare,
        evaluate,
        load,
        make_scenario,
        make_strategy,
        plot,
        records,
        register_strategy,
        run,
        table,
        tune,
        verify,
    )

__all__ = [
    "__version__",
    "check_scenario",
    "check_source",
    "check_strategy",
    "compare",
    "evaluate",
    "load",
    "make_scenario",
    "make_strategy",
    "plot",
    "records",
    "register_strategy",
    "run",
    "table",
    "tune",
    "verify",
]

bind("strategies", "scenarios")
install()


def __getattr__(name: str) -> Any:
    """Load the public functions on first use."""
    if name in __all__:
        from clgym import api

        return getattr(api, name)
    raise AttributeError(f"module 'clgym' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, so that tab completion shows them before they are loaded."""
    return sorted({*__all__, *globals()})
