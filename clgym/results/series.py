"""Numbers that a strategy logged in a run: ``series.csv`` beside the record, and their summary."""

import csv
import io
import json
from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["COLUMNS", "NumberSummary", "Series"]

COLUMNS = ("images", "experience", "epoch", "step", "name", "value")
"""Columns of ``series.csv``: number of images trained on or predicted so far in the run; experience
or segment, epoch and step, all counted from 1 (0 where they do not apply). There are no times, so
that a continued run leaves the same file."""
_KINDS = {"name": int, "value": float, "images": int, "experience": int, "epoch": int, "step": int}


class NumberSummary(BaseModel):
    """One of the numbers that a strategy logged."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    count: int = Field(ge=1)
    """Number of values."""
    last: float
    minimum: float
    maximum: float
    mean: float


class Series:
    """Rows of logged numbers in the order of arrival; all columns have the same length."""

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
        """Return the rows added since the last call, as arrays for a file; empty without rows."""
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

    def extend(self, later: "Series", images: int) -> None:
        """Add the rows of a later phase.

        Args:
            later: The series of that phase, which counts images from the phase's beginning.
            images: Number of images before the phase.
        """
        names = tuple(later._names)
        for part in later._parts:
            self.add(names, {**part, "images": part["images"] + images})

    def summary(self) -> dict[str, NumberSummary]:
        """Summary of each logged number, by name."""
        return {name: _summary(values) for name, values in self._values().items()}

    def _values(self) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for name, index in self._names.items():
            rows = [part["value"][part["name"] == index] for part in self._parts]
            found[name] = np.concatenate(rows)
        return found

    @classmethod
    def from_csv(cls, data: bytes) -> "Series":
        """Read the rows of a file that `as_csv` made.

        Raises:
            ValueError: The file has other columns, or a row of another length.
        """
        reader = csv.DictReader(io.StringIO(data.decode(), newline=""))
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"columns other than {', '.join(COLUMNS)}")
        rows = list(reader)
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a row of another length")
        names = {name: i for i, name in enumerate(dict.fromkeys(row["name"] for row in rows))}
        columns = {
            key: np.array([kind(row[key]) for row in rows], kind)
            for key, kind in _KINDS.items()
            if key != "name"
        }
        made = cls()
        if rows:
            index = np.array([names[row["name"]] for row in rows], np.int64)
            made.add(tuple(names), {**columns, "name": index})
        return made

    def as_csv(self) -> bytes:
        """The rows as the content of a file."""
        text, names = io.StringIO(), list(self._names)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for part in self._parts:
            lists = {key: values.tolist() for key, values in part.items()}
            lists["name"] = [names[index] for index in lists["name"]]
            writer.writerows(zip(*(lists[key] for key in COLUMNS), strict=True))
        return text.getvalue().encode()


def _summary(values: np.ndarray) -> NumberSummary:
    return NumberSummary(
        count=len(values),
        last=float(values[-1]),
        minimum=float(values.min()),
        maximum=float(values.max()),
        mean=float((values / len(values)).sum()),  # the sum itself may overflow
    )
