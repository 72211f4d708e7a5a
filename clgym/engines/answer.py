"""The learner's end of a channel: one message in, one reply out, errors as data."""

import contextlib
import importlib
import sys
import traceback
from collections.abc import Callable
from typing import Any, Protocol

from clgym import errors
from clgym.engines.channel import Message
from clgym.engines.spec import Done
from clgym.errors import BadAnswer, ClgymError, GymFailed, OutOfMemory, StrategyFailed

__all__ = [
    "Handler",
    "answer",
    "as_data",
    "done",
    "error_in",
    "event_in",
    "load_target",
    "make_target",
    "prepare",
    "raise_error",
    "warm_up",
]


_RAISED = "Correct the strategy; its traceback is above"
_REPEAT = (
    "Repeat the command, which continues where it stopped; if it fails again, report the traceback "
    "above"
)
_REFUSED = (
    "The sandbox may have refused it: put files that the strategy reads into its package, or give "
    "--sandbox none; its traceback is above"
)
_OUT_OF_MEMORY = (
    "Give smaller batches, or let fewer runs share the device (--workers, --workers-per-device)"
)


class Handler(Protocol):
    """An instance of a target."""

    def handle(self, message: Message) -> Message:
        """Reply to a message."""
        ...

    def blamed(self, error: BaseException, message: Message) -> type[ClgymError]:
        """Class of the error that stands for another exception, which a message caused."""
        ...


def load_target(target: str) -> Callable[..., Any]:
    """Load the class that ``module:Class`` names; importing its module takes the time."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def prepare(target: str, library: int) -> None:
    """Import a library that workers of a target need, so that forks of this process have it."""
    load_target(target).prepare(library)  # type: ignore[attr-defined]  # it named the number


def warm_up(target: str) -> None:
    """Have a target's class do, once for all forks, what each of its instances would do first."""
    with contextlib.suppress(ClgymError):  # workers will say what is wrong
        getattr(load_target(target), "warm_up", lambda: None)()


def make_target(target: str, emit: Callable[[Message], None]) -> Handler:
    """Create an instance of the ``module:Class`` that handles messages."""
    return load_target(target)(emit)


def answer(handler: Handler, message: Message) -> Message:
    """Return the handler's reply, or its error as data."""
    try:
        return handler.handle(message)
    except ClgymError as error:
        return as_data(error)
    # a plugin that calls sys.exit() must not look like a dead worker
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename.rsplit('/', 1)[-1]}:{last.lineno}"
        kind = handler.blamed(error, message)
        who = "clgym" if kind is GymFailed else "the strategy"
        return {
            "error": {
                "type": kind.__name__,
                "expected": f"{who} to handle {message['do']!r}",
                "found": f"{type(error).__name__}: {error} ({where})",
                "fix": _fix_of(kind, error),
                "traceback": traceback.format_exc(),
            }
        }


def _fix_of(kind: type[ClgymError], error: BaseException) -> str:
    if kind is GymFailed:
        return _REPEAT
    if kind is OutOfMemory:
        return _OUT_OF_MEMORY
    return _REFUSED if isinstance(error, PermissionError) else _RAISED


def as_data(error: ClgymError) -> Message:
    """Return a reply that carries an error."""
    parts = {"expected": error.expected, "found": error.found, "fix": error.fix}
    return {"error": {"type": type(error).__name__, **parts}}


def raise_error(reply: Message, show: Callable[[str], object]) -> None:
    """Raise the error that a reply carries, if any; ``show`` gets a plugin's own traceback."""
    error = error_in(reply)
    if error is None:
        return
    found = reply.get("error")
    trace = found.get("traceback") if isinstance(found, dict) else None
    if isinstance(trace, str):
        show(trace)
    raise error


def done(key: str, reply: Message) -> Done:
    """How a job ended, by its reply; shows the traceback of an unexpected error."""
    try:
        raise_error(reply, sys.stderr.write)
    except ClgymError as error:
        return Done(key, None, error)
    return Done(key, reply, None)


def error_in(reply: Message) -> ClgymError | None:
    """Return the error that a reply carries, if any; `BadAnswer` if it is malformed."""
    found = reply.get("error")
    if found is None:
        return None
    names = ("type", "expected", "found", "fix")
    parts = [found.get(name) for name in names] if isinstance(found, dict) else []
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) != len(names):
        return BadAnswer(
            expected="an error of the learner's side with its type and three parts",
            found=f"{str(found)[:200]!r}",
            fix="A plugin must not write to the learner's socket",
        )
    kind, expected, what, fix = texts
    cls = getattr(errors, kind, None)
    if not (isinstance(cls, type) and issubclass(cls, ClgymError)):
        cls = StrategyFailed
    return cls(expected=expected, found=what, fix=fix)


def event_in(reply: Message) -> Message | None:
    """The event that a message carries; None if the message is the reply.

    Raises:
        BadAnswer: The message carries something that is no event.
    """
    if "event" not in reply:
        return None
    event = reply["event"]
    if not isinstance(event, dict):
        raise BadAnswer(
            expected="an event by its fields",
            found=f"a {type(event).__name__}",
            fix="Do not write to the learner's socket in a plugin",
        )
    return event
