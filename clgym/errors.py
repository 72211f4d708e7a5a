"""Named errors: one small class per cause, each message in three parts.

A user's mistake never ends in a traceback: the command line prints the one line of the error and
leaves with exit code 2.
"""

from collections.abc import Iterable

from clgym.text import printable


class ClgymError(Exception):
    """What a user can mend. The message says what was expected, what was found, what to do."""

    def __init__(self, *, expected: str, found: str, fix: str) -> None:
        """Keep the three parts; each is a phrase without a final full stop.

        They may quote names of any origin: what a terminal would obey is shown as an escape.
        """
        self.expected, self.found, self.fix = map(printable, (expected, found, fix))
        super().__init__(f"expected {self.expected}; found {self.found}. {self.fix}.")

    def __reduce__(self) -> tuple:
        """Pickle by parts, so that the error crosses a process border unchanged."""
        return _rebuild, (type(self), self.expected, self.found, self.fix)


def _rebuild(cls: type[ClgymError], expected: str, found: str, fix: str) -> ClgymError:
    return cls(expected=expected, found=found, fix=fix)


class UnknownName(ClgymError):
    """A strategy, scenario, source or option that nobody registered."""


class Renamed(ClgymError, ImportError):
    """A module, class or function imported by the name that an earlier version gave it.

    An `ImportError`, because an `AttributeError` in ``from module import name`` would be replaced
    by one without the new name.
    """


class DuplicateName(ClgymError):
    """Two plugins under one name."""


class BadPlugin(ClgymError):
    """A plugin file that cannot be imported or does not hold what it should."""


class BadConfig(ClgymError):
    """A value outside its declared range, or of the wrong type."""


class BadStream(ClgymError):
    """A scenario that cannot be cut from its source as asked."""


class BadSource(ClgymError):
    """Data that are there but corrupt, truncated or inconsistent."""


class MissingData(ClgymError):
    """Data or weights that are not on this machine."""


class MissingExtra(ClgymError):
    """An optional package that is not installed."""


class Incompatible(ClgymError):
    """A strategy whose needs the scenario does not meet."""


class OutOfReach(ClgymError):
    """A strategy reached for what its setting withholds."""


class BadOutput(ClgymError):
    """An output folder that cannot be used as asked."""


class BadRecord(ClgymError):
    """A record that does not validate."""


class BadBatch(ClgymError):
    """Images that a strategy cannot work on."""


class BadAnswer(ClgymError):
    """A strategy answered with something that cannot be scored."""


class StrategyFailed(ClgymError):
    """The strategy's own code raised, or its process died."""


class WorkerDied(StrategyFailed):
    """The process of a strategy was killed; another attempt may succeed."""


class Withheld(ClgymError):
    """Data that this phase may not look at: the evaluation source, while tuning."""


class BadPlan(ClgymError):
    """A pair, search space or study that cannot be carried out as asked."""


class Tampered(ClgymError):
    """A certificate, record or ledger that does not hash to what it says."""


class WrongPhase(ClgymError):
    """A step of the protocol that its state does not allow: evaluating before sealing, and such."""


def near(name: str, known: Iterable[str]) -> str:
    """Say which known names are close to ``name``: the tail of an error's fix."""
    import difflib  # here, since only a mistake needs it and every command imports this module

    close = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
