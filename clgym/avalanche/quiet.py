"""Suppression of Avalanche's prints and of warnings about its own code."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["quiet"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Avalanche's prints and its warnings about its own code from the user."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        show = warnings.showwarning

        def show_others(message: Any, category: Any, filename: str, *rest: Any) -> None:
            # By file name, since Avalanche's decorators override the filters.
            if "avalanche" not in Path(filename).parts:
                show(message, category, filename, *rest)

        warnings.showwarning = show_others
        yield
