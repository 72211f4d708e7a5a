"""Numbers that a strategy logged in a run: ``series.csv`` beside the record, and their summary."""

import csv
import io
import json
import math
from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict

__all__ = ["COLUMNS", "NumberSummary", "Series"]

COLUMNS = ("images", "experience", "epoch", "step", "seconds", "name", "value")
"""Columns of ``series.csv``: images learned or answered so far over the run; experience or segment,
epoch and step, all counted from 1 (0 where nothing counts them); seconds of training or answering
so far over the run."""
_KINDS = {"name": int, "value": float, "images": int, "experience": int, "epoch": int, "step": int}
_KINDS["seconds"] = float


class NumberSummary(BaseModel):
    """One of the numbers that a strategy logged; the extremes and the mean are over finite values.

    They are None where there is no finite value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int
    """How often it was logged."""
    last: float | None
    minimum: float | None
    maximum: float | None
    mean: float | None


class Series:
    """Rows of logged numbers, in the order in which they came; all columns have one length."""

    def __init__(self) -> None:
        """Begin without rows."""
        self._names: dict[str, int] = {}
        self._parts: list[dict[str, np.ndarray]] = []
        self._in_pieces = 0

    def __len__(self) -> int:
        """Count the rows."""
        return sum(len(part["name"]) for part in self._parts)

    def add(self, names: tuple[str, ...], columns: Mapping[str, np.ndarray]) -> None:
        """Add rows: ``columns`` has all of `COLUMNS`, ``name`` as indices of ``names``."""
        own = np.array([self._names.setdefault(n, len(self._names)) for n in names], np.int64)
        part = {key: columns[key].astype(kind) for key, kind in _KINDS.items()}
        part["name"] = own[part["name"]]
        self._parts.append(part)

    def take_piece(self) -> dict[str, np.ndarray]:
        """The rows since the last call, as arrays for a file; empty without any."""
        parts, self._in_pieces = self._parts[self._in_pieces :], len(self._parts)
        if not parts:
            return {}
        joined = {f"logged_{k}": np.concatenate([p[k] for p in parts]) for k in _KINDS}
        names = np.frombuffer(json.dumps(list(self._names)).encode(), np.uint8)
        return {**joined, "logged_names": names}

    def put_piece(self, piece: Mapping[str, np.ndarray]) -> None:
        """Add the rows that `take_piece` returned in an earlier session."""
        if "logged_names" in piece:
            names = json.loads(piece["logged_names"].tobytes())
            self.add(tuple(names), {key: piece[f"logged_{key}"] for key in _KINDS})
        self._in_pieces = len(self._parts)

    def extend(self, later: "Series", images: int, seconds: float) -> None:
        """Add the rows of a later phase.

        Args:
            later: Its series, which counts images and seconds from the phase's beginning.
            images: Images before that.
            seconds: Seconds before that.
        """
        names = tuple(later._names)
        for part in later._parts:
            moved = {"images": part["images"] + images, "seconds": part["seconds"] + seconds}
            self.add(names, {**part, **moved})

    def summary(self) -> dict[str, NumberSummary]:
        """Every number by name."""
        return {name: _summary(values) for name, values in self._values().items()}

    def _values(self) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for name, index in self._names.items():
            rows = [part["value"][part["name"] == index] for part in self._parts]
            found[name] = np.concatenate(rows)
        return found

    def as_csv(self) -> bytes:
        """The rows as the content of a file."""
        text, names = io.StringIO(), list(self._names)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for part in self._parts:
            lists = {key: values.tolist() for key, values in part.items()}
            lists["name"] = [names[index] for index in lists["name"]]
            lists["seconds"] = [f"{seconds:.3f}" for seconds in lists["seconds"]]
            writer.writerows(zip(*(lists[key] for key in COLUMNS), strict=True))
        return text.getvalue().encode()


def _summary(values: np.ndarray) -> NumberSummary:
    finite = values[np.isfinite(values)]
    known = len(finite) > 0
    return NumberSummary(
        count=len(values),
        last=float(values[-1]) if math.isfinite(values[-1]) else None,
        minimum=float(finite.min()) if known else None,
        maximum=float(finite.max()) if known else None,
        mean=float(finite.mean()) if known else None,
    )
