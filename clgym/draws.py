"""The one source of random numbers of a run: named streams on NumPy's SeedSequence.

A stream is known by what it is for and by where in a run it is drawn: its name, the run's seed, and
the experience, epoch and step that are given. A draw depends on nothing that was drawn before, so
a run that was interrupted goes on to the same bits, and a strategy that draws once more moves no
other stream. What torch and the global generators are given follows from the same sequences
(`clgym.data.generators`).

What a record promises includes these draws: pinned values in the tests hold them, and a change of
them comes with a release that `other_draws` knows.

Draws that define data or belong to others are no streams of a run and have keys of their own:
class orders, splits, corruptions, the samplers of a protocol, the withheld order of test rows.
"""

import hashlib
import json
import operator
import re

import numpy as np

from clgym._version import __version__
from clgym.errors import BadPlugin

__all__ = ["other_draws", "sequence"]

_SINCE = (0, 2)
"""First release, major and minor, whose draws are those of this one."""


def sequence(
    seed: int,
    *name: str,
    experience: int | None = None,
    epoch: int | None = None,
    step: int | None = None,
) -> np.random.SeedSequence:
    """The seed sequence of a stream; two that differ in any part are independent.

    The parts are hashed as JSON: NumPy takes lists of numbers that differ in trailing zeros, or in
    where a large number ends and the next begins, for one key.

    Args:
        seed: The run's seed.
        name: What the stream is for, in one word or several; at least one.
        experience: Position of the experience in the stream; None is no position, not the first.
        epoch: Which pass over the experience; None for draws that are made once.
        step: Which batch of the epoch, or of the whole stream where no epoch is given.

    Raises:
        BadPlugin: the name has no words, or something else in their place.
    """
    if not name or not all(isinstance(word, str) and word for word in name):
        raise BadPlugin(
            expected="a name for a stream of random numbers, in words such as 'replay'",
            found=", ".join(map(repr, name)) or "none",
            fix="Name what is drawn, and give epoch= and step= by keyword",
        )
    place = [None if at is None else operator.index(at) for at in (experience, epoch, step)]
    key = json.dumps([operator.index(seed), *place, list(name)])
    return np.random.SeedSequence(np.frombuffer(hashlib.sha256(key.encode()).digest(), "<u4"))


def other_draws(version: str) -> str | None:
    """Why a run of another release may give another result when it is repeated, in words.

    Args:
        version: The release of clgym that made a record.

    Returns:
        None where that release drew as this one does.
    """
    release = re.match(r"(\d+)\.(\d+)", version)
    if release is not None and tuple(map(int, release.groups())) >= _SINCE:
        return None
    return (
        f"made with the random draws of clgym {version}, which clgym {__version__} does not repeat"
    )
