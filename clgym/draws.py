"""The one source of random numbers of a run: named streams on NumPy's SeedSequence.

A stream of random numbers is identified by its purpose and its place in a run: its name, the run's
seed, and the experience, epoch and step, if given. A draw depends on nothing that was drawn before,
so an interrupted run continues with the same bits, and one more draw of a strategy changes no other
stream. The seeds of torch and of the global generators follow from the same sequences
(`clgym.data.generators`).

Records depend on these draws: tests pin their values, and a change of them needs a new release in
`other_draws`.

Draws that define data or belong to other parts are not streams of a run and have separate seeds:
class orders, splits, corruptions, the samplers of a protocol, the withheld order of test rows.
"""

import functools
import hashlib
import json
import operator
import re

import numpy as np

from clgym._version import __version__
from clgym.errors import BadPlugin

__all__ = ["other_draws", "sequence"]

_SINCE = (0, 2)
"""First release (major, minor) with the same draws as this one."""


def sequence(
    seed: int,
    *name: str,
    experience: int | None = None,
    epoch: int | None = None,
    step: int | None = None,
) -> np.random.SeedSequence:
    """Return the seed sequence of a stream; sequences that differ in any argument are independent.

    The arguments are hashed as JSON, since NumPy gives the same sequence for lists of numbers that
    differ in trailing zeros, or in where a large number ends and the next begins.

    Args:
        seed: Seed of the run.
        name: Purpose of the stream, in one or more words.
        experience: Index of the experience; None for draws outside experiences, unlike 0.
        epoch: Index of the pass over the experience; None for draws that are made once.
        step: Index of the batch in the epoch, or in the whole stream if no epoch is given.

    Raises:
        BadPlugin: The name has no words, or contains something else.
    """
    if not name or not all(isinstance(word, str) and word for word in name):
        raise BadPlugin(
            expected="a name for a stream of random numbers, in words such as 'replay'",
            found=", ".join(map(repr, name)) or "none",
            fix="Name the purpose of the draw, and give epoch= and step= by keyword",
        )
    numbers = (seed, experience, epoch, step)
    place = ", ".join("null" if at is None else str(operator.index(at)) for at in numbers)
    key = f"[{place}, {_words(name)}]".encode()
    return np.random.SeedSequence(np.frombuffer(hashlib.sha256(key).digest(), "<u4"))


@functools.lru_cache(maxsize=256)
def _words(name: tuple[str, ...]) -> str:
    """The name of a stream as JSON; cached, since every step draws from the same few streams."""
    return json.dumps(list(name))


def other_draws(version: str) -> str | None:
    """Text about why repeating a run of another release may give another result.

    Args:
        version: Release of clgym that made a record.

    Returns:
        The text, or None if that release made the same draws as this one.
    """
    release = re.match(r"(\d+)\.(\d+)", version)
    if release is not None and tuple(map(int, release.groups())) >= _SINCE:
        return None
    return (
        f"made with the random draws of clgym {version}, which clgym {__version__} does not repeat"
    )
