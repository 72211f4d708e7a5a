"""Fixed transformations of an experience's images, as values: scenarios and the gym read them.

`clgym.data.apply_transform` carries them out where images are. No torch here.
"""

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path

from clgym.errors import BadStream

__all__ = ["KINDS", "Transform"]

KINDS = {
    "permute": (0, 2**32 - 1),
    "rotate": (-math.inf, math.inf),
    "brightness": (0, math.inf),
    "contrast": (0, math.inf),
    "colour": (0, math.inf),
    "blur": (0, 100),
    "resolution": (0, 1),
}
"""Transformations that clgym knows, with the smallest and the largest amount."""


@dataclass(frozen=True)
class Transform:
    """A fixed transformation of an experience's images, in training and at test."""

    kind: str
    """Kind of change: permute, rotate, brightness, contrast, colour, blur or resolution; or
    ``PATH.py:FUNCTION``, a function of images float [n, C, H, W] in [0, 1] and the amount."""
    amount: float
    """Seed of a permutation; angle in degrees counter-clockwise; factor of brightness, contrast or
    colour; standard deviation of a Gaussian blur in pixels; fraction of the side to which the
    resolution is reduced; second argument of a function from a file."""
    file_sha256: str = field(default="", init=False)
    """SHA-256 of the function's file; empty without one."""

    def __post_init__(self) -> None:
        """Check the kind and the amount; read the function's file.

        Raises:
            BadStream: neither a known kind nor a file, or an amount outside its range.
        """
        if not math.isfinite(self.amount):
            raise _refused("a finite amount", repr(self.amount), "Give a number")
        if self.kind in KINDS:
            return _check_amount(self.kind, self.amount)
        try:
            digest = hashlib.sha256(self._file().read_bytes()).hexdigest()
        except OSError as error:
            raise _refused(
                f"one of {', '.join(KINDS)}, or the absolute path of a Python file with a "
                "function, PATH.py:FUNCTION",
                f"{self.kind!r}: {type(error).__name__}",
                "For a file beside the scenario's: str(Path(__file__).with_name('FILE.py')) + "
                "':FUNCTION'",
            ) from error
        object.__setattr__(self, "file_sha256", digest)

    def _file(self) -> Path:
        path, colon, name = self.kind.rpartition(":")
        if not colon or not name.isidentifier() or not Path(path).is_absolute():
            raise FileNotFoundError
        return Path(path)

    @property
    def file(self) -> Path | None:
        """The function's file; None for a kind that clgym knows."""
        return self._file() if self.file_sha256 else None

    @property
    def facts(self) -> dict[str, object]:
        """Kind and amount for the stream's digest: a file counts by its content, not its place."""
        name = self.kind.rpartition(":")[2]
        kind = f"{self.file_sha256}:{name}" if self.file_sha256 else self.kind
        return {"kind": kind, "amount": self.amount}

    @property
    def message(self) -> tuple[str, float]:
        """Kind and amount for the learner; a function's kind ends in ``#`` and its file's hash."""
        return (f"{self.kind}#{self.file_sha256}" if self.file_sha256 else self.kind), self.amount


def _check_amount(kind: str, amount: float) -> None:
    low, high = KINDS[kind]
    whole = kind != "permute" or amount == int(amount)
    if not low <= amount <= high or not whole or (kind == "resolution" and amount == 0):
        what = "a whole number" if kind == "permute" else "a number"
        raise _refused(
            f"{what} from {low} to {high} as the amount of {kind}",
            repr(amount),
            "Give one in this range" + (", above 0" if kind == "resolution" else ""),
        )


def _refused(expected: str, found: str, fix: str) -> BadStream:
    return BadStream(expected=expected, found=found, fix=fix)
