"""The learner's end of a channel: one message in, one reply out, errors as data."""

import importlib
import traceback
from collections.abc import Callable
from typing import Any

from clgym import errors
from clgym.errors import ClgymError, StrategyFailed

__all__ = ["answer", "as_data", "error_in", "make_target", "raise_error"]


def make_target(target: str, emit: Callable[[dict[str, Any]], None]) -> Any:
    """An instance of the ``module:Class`` that answers messages."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)(emit)


def answer(handler: Any, message: dict[str, Any]) -> dict[str, Any]:
    """The handler's reply, or its error as data."""
    try:
        return handler.handle(message)
    except ClgymError as error:
        return as_data(error)
    except (Exception, SystemExit) as error:  # a plugin that calls sys.exit() is not a dead worker
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename.rsplit('/', 1)[-1]}:{last.lineno}"
        return {
            "error": {
                "type": "StrategyFailed",
                "expected": f"the strategy to handle {message['do']!r}",
                "found": f"{type(error).__name__}: {error} ({where})",
                "fix": "Mend the strategy; its traceback is above",
                "traceback": traceback.format_exc(),
            }
        }


def as_data(error: ClgymError) -> dict[str, Any]:
    """A reply that carries an error."""
    parts = {"expected": error.expected, "found": error.found, "fix": error.fix}
    return {"error": {"type": type(error).__name__, **parts}}


def raise_error(reply: dict[str, Any], show: Callable[[str], object]) -> None:
    """Raise the error that a reply carries, if any; ``show`` gets a plugin's own traceback."""
    error = error_in(reply)
    if error is None:
        return
    if "traceback" in reply["error"]:
        show(reply["error"]["traceback"])
    raise error


def error_in(reply: dict[str, Any]) -> ClgymError | None:
    """The error that a reply carries, if any."""
    found = reply.get("error")
    if found is None:
        return None
    cls = getattr(errors, found["type"], StrategyFailed)
    return cls(expected=found["expected"], found=found["found"], fix=found["fix"])
