"""Named errors: one small class per cause, each message in three parts.

A user's mistake never ends in a traceback: the command line prints what is wrong in one line and
exits with code 2.
"""

from collections.abc import Iterable
from typing import ClassVar

from clgym.text import printable


class ClgymError(Exception):
    """Base of the errors that a user can fix: what was expected, what was found, and a fix."""

    problem: ClassVar[str] = "the command failed"
    """What is wrong, in plain words; the command line puts it before the message."""

    def __init__(self, *, expected: str, found: str, fix: str) -> None:
        """Store the three parts, each a phrase without a final full stop.

        They may quote any text; control characters are shown as escapes.
        """
        self.expected, self.found, self.fix = map(printable, (expected, found, fix))
        super().__init__(f"expected {self.expected}; found {self.found}. {self.fix}.")

    def __reduce__(self) -> tuple:
        """Pickle by parts, so that the error can be sent to another process unchanged."""
        return _rebuild, (type(self), self.expected, self.found, self.fix)


def _rebuild(cls: type[ClgymError], expected: str, found: str, fix: str) -> ClgymError:
    return cls(expected=expected, found=found, fix=fix)


class UnknownName(ClgymError):
    """The name of a strategy, scenario, source or option that is not registered."""

    problem = "unknown name"


class Renamed(ClgymError, ImportError):
    """A module, class or function imported by the name that an earlier version gave it.

    An `ImportError`, because an `AttributeError` in ``from module import name`` would be replaced
    by one without the new name.
    """

    problem = "renamed"


class DuplicateName(ClgymError):
    """Two plugins of the same name."""

    problem = "duplicate name"


class BadPlugin(ClgymError):
    """A plugin file that cannot be imported, or does not contain what it should."""

    problem = "cannot use the plugin"


class BadConfig(ClgymError):
    """An option of the wrong type, or outside its declared range."""

    problem = "invalid option"


class BadStream(ClgymError):
    """A scenario that cannot be built from its source with these options."""

    problem = "cannot build the stream"


class BadSource(ClgymError):
    """Data that exist but are corrupt, truncated or inconsistent."""

    problem = "cannot read the data"


class MissingData(ClgymError):
    """Data or weights that are not on this machine."""

    problem = "missing data"


class MissingExtra(ClgymError):
    """An optional package that is not installed."""

    problem = "missing package"


class Incompatible(ClgymError):
    """Items that do not fit together, such as a strategy whose needs the scenario does not meet."""

    problem = "incompatible combination"


class OutOfReach(ClgymError):
    """A strategy tried to read what its scenario type withholds."""

    problem = "access to withheld data"


class BadOutput(ClgymError):
    """An output folder that cannot be used."""

    problem = "cannot use the folder"


class BadRecord(ClgymError):
    """A record that does not validate, or records that cannot be used together."""

    problem = "cannot use the record"


class BadBatch(ClgymError):
    """Images that a strategy cannot process."""

    problem = "cannot process the images"


class BadAnswer(ClgymError):
    """A reply of the learner that is malformed or cannot be scored."""

    problem = "invalid reply"


class StrategyFailed(ClgymError):
    """The strategy's own code raised an exception, or its process died."""

    problem = "the strategy failed"


class OutOfMemory(StrategyFailed):
    """The strategy needs more memory than the machine or the device has."""

    problem = "too little memory"


class OutOfTime(StrategyFailed):
    """The strategy did not answer within the time limit."""

    problem = "no answer in time"


class WorkerDied(StrategyFailed):
    """The process of a strategy was killed; another attempt may succeed."""

    problem = "the process of the strategy was killed"


class GymFailed(ClgymError):
    """An exception in clgym's own code, or a fault of the machine; no strategy is to blame."""

    problem = "clgym itself failed"


class JobLost(GymFailed):
    """The process of a job ended before its result was known; another attempt may succeed."""

    problem = "the process of a job was killed"


class Withheld(ClgymError):
    """Data that this phase must not read: the evaluation source during tuning."""

    problem = "access to withheld data"


class BadPlan(ClgymError):
    """A pair, search space or study that cannot be carried out."""

    problem = "cannot carry out the study"


class Tampered(ClgymError):
    """A certificate, record, ledger or file that does not match its hash."""

    problem = "changed after it was written"


class WrongPhase(ClgymError):
    """A step of the protocol that is not allowed yet, such as evaluating before sealing."""

    problem = "not possible in this phase"


def near(name: str, known: Iterable[str]) -> str:
    """Suggest known names that are close to ``name``, for the beginning of an error's fix."""
    import difflib  # imported here, since every command imports this module and only errors need it

    close = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    *first, last = map(repr, close or [""])
    listed = f"{', '.join(first)} or {last}" if first else last
    return f"Did you mean {listed}? " if close else ""
