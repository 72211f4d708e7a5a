"""The learner's end of a channel: one message in, one reply out, errors as data."""

import importlib
import traceback
from collections.abc import Callable
from typing import Any

from clgym import errors
from clgym.errors import BadAnswer, ClgymError, StrategyFailed

__all__ = ["answer", "as_data", "error_in", "load_target", "make_target", "prepare", "raise_error"]


_RAISED = "Correct the strategy; its traceback is above"
_REFUSED = (
    "The sandbox may have refused it: put files that the strategy reads into its package, or give "
    "--sandbox none; its traceback is above"
)


def load_target(target: str) -> Callable[..., Any]:
    """Load the class that ``module:Class`` names; importing its module takes the time."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def prepare(target: str) -> None:
    """Preload what many workers of a target may need, so that forks of this process have it."""
    getattr(load_target(target), "prepare", lambda: None)()


def make_target(target: str, emit: Callable[[dict[str, Any]], None]) -> Any:
    """Create an instance of the ``module:Class`` that handles messages."""
    return load_target(target)(emit)


def answer(handler: Any, message: dict[str, Any]) -> dict[str, Any]:
    """Return the handler's reply, or its error as data."""
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
                "fix": _REFUSED if isinstance(error, PermissionError) else _RAISED,
                "traceback": traceback.format_exc(),
            }
        }


def as_data(error: ClgymError) -> dict[str, Any]:
    """Return a reply that carries an error."""
    parts = {"expected": error.expected, "found": error.found, "fix": error.fix}
    return {"error": {"type": type(error).__name__, **parts}}


def raise_error(reply: dict[str, Any], show: Callable[[str], object]) -> None:
    """Raise the error that a reply carries, if any; ``show`` gets a plugin's own traceback."""
    error = error_in(reply)
    if error is None:
        return
    trace = reply["error"].get("traceback") if isinstance(reply["error"], dict) else None
    if isinstance(trace, str):
        show(trace)
    raise error


def error_in(reply: dict[str, Any]) -> ClgymError | None:
    """Return the error that a reply carries, if any; `BadAnswer` if it is malformed."""
    found = reply.get("error")
    if found is None:
        return None
    parts = ("type", "expected", "found", "fix")
    if not isinstance(found, dict) or not all(isinstance(found.get(p), str) for p in parts):
        return BadAnswer(
            expected="an error of the learner's side with its type and three parts",
            found=f"{str(found)[:200]!r}",
            fix="A plugin must not write to the learner's socket",
        )
    cls = getattr(errors, found["type"], None)
    if not (isinstance(cls, type) and issubclass(cls, ClgymError)):
        cls = StrategyFailed
    return cls(expected=found["expected"], found=found["found"], fix=found["fix"])
