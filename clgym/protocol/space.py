"""Search spaces from `Search` in a strategy's options or from a literal ``SPACE``.

``{"lr": [0.01, 0.1], "alpha": {"low": 0.1, "high": 2.0, "log": True}, "steps": {"values": [2, 3],
"when": {"schedule": ["step"]}}}``: keys are config fields; a list is drawn from uniformly; a range
is closed; a parameter with ``when`` exists only where the others have one of those values.
"""

import ast
import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from clgym import registry
from clgym.config import Field
from clgym.errors import BadConfig, BadPlan, near
from clgym.protocol import gtep
from clgym.registry.reading import literal_of

__all__ = ["Parameter", "Space", "find_space", "literal_in", "parse"]

_DIGITS = 6
"""Significant digits of a drawn float, since exponentials differ in the last bit between
machines."""


@dataclass(frozen=True)
class Parameter:
    """One dimension: finite values, or a closed range."""

    name: str
    kind: str
    """Kind of the config field."""
    values: tuple[Any, ...] | None = None
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    when: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    @property
    def choices(self) -> Sequence[Any] | None:
        """All values in their order; None for a range of floats."""
        if self.values is not None:
            return self.values
        return range(int(self.low), int(self.high) + 1) if self.kind == "int" else None

    def at(self, u: float) -> Any:
        """Value for ``u`` in [0, 1); each of finitely many values has an equal part of [0, 1).

        In ranges with ``log``, a float's logarithm is uniform; a whole number n has the fraction
        that [n - 1/2, n + 1/2] has, on a logarithmic scale, of the range widened by 1/2 at both
        ends.
        """
        if self.choices is not None and not self.log:
            return self.choices[int(u * len(self.choices))]
        if self.kind == "int":
            drawn = _geometric(self.low - 0.5, self.high + 0.5, u)
            return min(max(round(drawn), int(self.low)), int(self.high))
        if self.log:
            return self.rounded(_geometric(self.low, self.high, u))
        return self.rounded(self.low + u * (self.high - self.low))

    def rounded(self, value: float) -> float:
        """Round a drawn float to few digits, within the range.

        There are six significant digits, or as many as a narrow range needs for about a thousand
        values.
        """
        largest = max(abs(self.low), abs(self.high))
        digits = max(_DIGITS, math.ceil(math.log10(largest / (self.high - self.low))) + 3)
        return min(max(float(f"{value:.{digits}g}"), self.low), self.high)

    def describe(self) -> dict[str, object]:
        """Return the parameter as JSON-ready data."""
        body: dict[str, object] = {"name": self.name, "kind": self.kind}
        if self.values is not None:
            body["values"] = list(self.values)
        else:
            body |= {"low": self.low, "high": self.high, "log": self.log}
        if self.when:
            body["when"] = {name: list(values) for name, values in self.when}
        return body


@dataclass(frozen=True)
class Space:
    """Parameters in the order of the draws."""

    parameters: tuple[Parameter, ...]

    def active(self, values: Mapping[str, Any]) -> dict[str, object]:
        """Values whose conditions hold."""
        known = {p.name: p for p in self.parameters}
        return {n: v for n, v in values.items() if self._holds(known[n], values, known)}

    def _holds(
        self, p: Parameter, values: Mapping[str, Any], known: Mapping[str, Parameter]
    ) -> bool:
        return all(
            values.get(name) in allowed and self._holds(known[name], values, known)
            for name, allowed in p.when
        )

    def settings(self) -> Iterator[dict[str, object]]:
        """Each distinct combination once; endless for a space with a range of floats.

        Raises:
            ValueError: There is a range of floats among the parameters.
        """
        return _settings(_parents_first(self.parameters), {}, self)

    @property
    def finite(self) -> bool:
        """Whether the combinations can be counted."""
        return all(p.choices is not None for p in self.parameters)

    def without(self, fixed: Mapping[str, Any]) -> "Space":
        """Space that remains when some parameters are fixed to one value each."""
        left: list[Parameter] = []
        for p in self.parameters:
            met = all(fixed[name] in allowed for name, allowed in p.when if name in fixed)
            if p.name not in fixed and met:
                left.append(replace(p, when=tuple(w for w in p.when if w[0] not in fixed)))
        return Space(tuple(left))

    def describe(self) -> list[dict[str, object]]:
        """Return the space as a JSON-ready list, since order matters."""
        return [p.describe() for p in self.parameters]

    @staticmethod
    def of(described: Sequence[Mapping[str, Any]]) -> "Space":
        """Create the space that `describe` returned."""
        return Space(
            tuple(
                Parameter(
                    p["name"],
                    p["kind"],
                    tuple(p["values"]) if "values" in p else None,
                    p.get("low", 0.0),
                    p.get("high", 0.0),
                    p.get("log", False),
                    tuple((name, tuple(values)) for name, values in p.get("when", {}).items()),
                )
                for p in described
            )
        )

    @property
    def size(self) -> int | None:
        """Number of combinations, ignoring conditions; None with a range among them."""
        sizes = [0 if p.values is None else len(p.values) for p in self.parameters]
        return math.prod(sizes) if all(sizes) else None


def _geometric(low: float, high: float, u: float) -> float:
    return math.exp(math.log(low) + u * (math.log(high) - math.log(low)))


def _parents_first(parameters: Sequence[Parameter]) -> list[Parameter]:
    """Sort parameters so that each comes after those in its conditions."""
    ordered: list[Parameter] = []
    waiting = list(parameters)
    while waiting:
        names = {p.name for p in waiting}
        ready = [p for p in waiting if not any(name in names for name, _ in p.when)]
        ordered += ready
        waiting = [p for p in waiting if p not in ready]
    return ordered


def _settings(
    waiting: Sequence[Parameter], values: dict[str, object], space: Space
) -> Iterator[dict[str, object]]:
    """Combinations that begin with ``values``; parameters without effect are left out."""
    if not waiting:
        yield {p.name: values[p.name] for p in space.parameters if p.name in values}
        return
    first, *rest = waiting
    if first.name not in space.active({**values, first.name: None}):
        yield from _settings(rest, values, space)
        return
    if first.choices is None:
        raise ValueError(f"{first.name} has infinitely many values")
    for value in first.choices:
        yield from _settings(rest, {**values, first.name: value}, space)


def find_space(
    strategy: str, file: str | None, fields: Sequence[Field], plugins: Sequence[Path] = ()
) -> Space:
    """The search space of a strategy.

    Args:
        strategy: Name of the strategy.
        file: Path of a TOML or JSON file with a space, or one of `gtep.SPACES`; None means the
            space that the strategy's own file states.
        fields: Fields of the strategy's config.
        plugins: Files that the user named.

    Raises:
        BadPlan: There is no space, or it does not fit the config.
    """
    if file is not None and file in gtep.SPACES:
        literal = gtep.space_of(strategy, file)
        if literal is None:
            studied = gtep.SCRATCH if file == "paper-lite" else {**gtep.SCRATCH, **gtep.PRETRAINED}
            methods = map(gtep.strategy_of, studied)
            raise BadPlan(
                expected=f"a method of the paper ({', '.join(methods)})",
                found=repr(strategy),
                fix="Give --space a file, or leave it out",
            )
        return parse(literal, fields, strategy)
    literal = _declared(strategy, fields, plugins) if file is None else _read(Path(file))
    return parse(literal, fields, strategy)


def _declared(strategy: str, fields: Sequence[Field], plugins: Sequence[Path]) -> Mapping[str, Any]:
    """Space in the strategy's file: its SPACE if there is one, else the `Search` of its options."""
    entry = registry.find("strategies", strategy, plugins)
    literal = literal_in(entry.path, "SPACE")
    if entry.variants:
        literal = literal.get(entry.argument or "")
    literal = literal or {f.name: f.search for f in fields if f.search is not None}
    if not literal:
        raise BadPlan(
            expected=f"search values for {strategy} in {entry.file_name}",
            found="none",
            fix="Give --space FILE (TOML, JSON) or --mode default, or write Search(...) at its "
            "options or a SPACE beside its config",
        )
    return literal


def literal_in(path: Path, name: str) -> dict[str, Any]:  # values of any type
    """Read a dictionary that a module's file assigns, without running the file.

    Args:
        path: File of the module.
        name: Name to which the dictionary is assigned, with or without an annotation.

    Returns:
        The dictionary of the last assignment, as Python has it; empty if there is none.

    Raises:
        BadPlan: It is not written as a literal.
    """
    try:
        found = literal_of(ast.parse(path.read_text()), name)
        if not isinstance(found, dict | None):
            raise ValueError(f"{name} is a {type(found).__name__}")
    except ValueError as error:
        raise BadPlan(
            expected=f"{name} in {path.name} as a literal dictionary",
            found=str(error),
            fix="Write out its keys and values in one assignment, since the file is read without "
            "being run; or give --space a TOML or JSON file",
        ) from error
    return dict(cast(Mapping[str, Any], found or {}))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text()
        return json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise BadPlan(
            expected=f"a search space in {path}",
            found=str(getattr(error, "strerror", None) or error),
            fix="Give --space a TOML or JSON file whose keys are options of the strategy",
        ) from error


def parse(literal: Mapping[str, Any], fields: Sequence[Field], owner: str) -> Space:
    """Create a space from its literal form. Every value is checked by its config field.

    Raises:
        BadPlan: A parameter is unknown, its field refuses a value, or a condition cannot hold.
    """
    known = {field.name: field for field in fields}
    parameters: list[Parameter] = []
    for name, given in literal.items():
        if name not in known:
            raise _bad(
                owner, name, f"no option {name!r}; {near(name, known) or 'see `clgym show`'}"
            )
        effects = (known[name].when or {}).items()
        usual = {other: values for other, values in effects if other in literal}
        parameters.append(_parameter(known[name], given, owner, usual))
    for p in parameters:
        for other, _ in p.when:
            if other not in literal or other == p.name:
                raise _bad(owner, p.name, f"a condition on {other!r}, which is not in the space")
    if _cyclic({p.name: [other for other, _ in p.when] for p in parameters}):
        raise _bad(owner, "when", "conditions that refer to each other in a circle")
    return Space(tuple(parameters))


def _parameter(field: Field, given: Any, owner: str, usual: Mapping[str, Any]) -> Parameter:
    """One parameter; ``usual`` are its conditions if the space gives none."""
    allowed = {"values", "low", "high", "log", "when"}
    said = cast(Mapping[str, Any], given) if isinstance(given, dict) else {"values": given}
    if not isinstance(given, (list, tuple, dict)) or set(said) - allowed:
        raise _bad(owner, field.name, f"{given!r}")
    try:
        when = tuple((name, _as_tuple(v)) for name, v in said.get("when", usual).items())
        if "values" in said:
            values = tuple(field.check(value, owner) for value in said["values"])
            if not values or len(set(map(repr, values))) < len(values):
                raise _bad(owner, field.name, "no values, or one twice")
            return Parameter(field.name, field.kind, values, when=when)
        low, high = (field.check(said[side], owner) for side in ("low", "high"))
        log = bool(said.get("log", False))
        if field.kind not in ("int", "float") or not low < high or (log and low <= 0):
            raise _bad(owner, field.name, f"a range from {low} to {high}")
        return Parameter(field.name, field.kind, None, low, high, log, when)
    except (BadConfig, KeyError, TypeError, AttributeError) as error:
        raise _bad(owner, field.name, f"{error}") from error


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(cast(Sequence[Any], value)) if isinstance(value, (list, tuple)) else (value,)


def _cyclic(needs: dict[str, list[str]]) -> bool:
    while free := [name for name, others in needs.items() if not any(o in needs for o in others)]:
        for name in free:
            del needs[name]
    return bool(needs)


def _bad(owner: str, name: str, found: str) -> BadPlan:
    return BadPlan(
        expected=f"a search space over the options of {owner}",
        found=f"{found} at {name!r}",
        fix="Write NAME = [values], or {low = ..., high = ...}, with when = {OTHER = [values]}",
    )
