"""Arrange methods by stream, under names that distinguish both."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clgym.board.page.cells import short
from clgym.board.reading.entries import BY_HAND
from clgym.board.reading.found import Method
from clgym.errors import BadRecord
from clgym.files import canonical_json, sha256
from clgym.results.grouping import stream_of

__all__ = ["Grid", "grid_of"]

Facts = dict[str, Any]
"""Facts about a stream or a method by name. ``Any``: options are of any type."""


@dataclass(frozen=True)
class Grid:
    """Methods by method name and stream name."""

    methods: tuple[str, ...]
    """Names in the order in which the methods were given."""
    streams: tuple[str, ...]
    cells: Mapping[tuple[str, str], Method]
    """Method with runs, by method name and stream name; a pair without runs is absent."""
    notes: tuple[str, ...]
    """Remarks about methods that were left out."""


def grid_of(methods: Sequence[Method]) -> Grid:
    """Arrange methods; strategies of one name are distinguished by the options that differ.

    Raises:
        BadRecord: None of the methods has a run, or a record contradicts itself.
    """
    able = [method for method in methods if method.runs]
    notes = [
        f"{m.name}: left out, since the study has no complete evaluation"
        for m in methods
        if not m.runs
    ]
    if not able:
        raise BadRecord(
            expected="finished runs, or studies with an evaluation",
            found="none",
            fix="Give output folders of `clgym run`, or run `clgym evaluate` first",
        )
    for run in (run for method in able for run in method.runs):
        run.check()
    streams = _stream_names(able)
    names = _method_names(able, streams)
    cells = dict(zip(zip(names, streams, strict=True), able, strict=True))
    return Grid(tuple(dict.fromkeys(names)), tuple(dict.fromkeys(streams)), cells, tuple(notes))


def _stream_names(methods: Sequence[Method]) -> list[str]:
    """Name of each method's stream; streams of one name are distinguished by what differs."""
    facts = [stream_of(method.results[0]) for method in methods]
    keys = [sha256(canonical_json(fact)) for fact in facts]
    names: dict[str, str] = {}
    for name in {str(fact["name"]) for fact in facts}:
        alike = {k: f for k, f in zip(keys, facts, strict=True) if f["name"] == name}
        told = [_differing([_flat(f) for f in alike.values()], i) for i in range(len(alike))]
        clear = len(set(told)) == len(told)
        for key, words in zip(alike, told, strict=True):
            more = words if clear else key[:6]
            names[key] = f"{name} ({more})" if len(alike) > 1 else name
    return [names[key] for key in keys]


def _flat(stream: Facts) -> Facts:
    """Facts of a stream, its options among them."""
    sources = [name for name, _ in stream["sources"]]
    return {**stream["options"], **stream, "options": None, "sources": sources}


def _differing(facts: Sequence[Facts], which: int) -> str:
    """Text of the facts of one item in which the items differ."""
    names = sorted({name for fact in facts for name in fact})
    own = [name for name in names if len({repr(fact.get(name)) for fact in facts}) > 1]
    return ", ".join(f"{name} {short(facts[which].get(name), 24)}" for name in own)


def _method_names(methods: Sequence[Method], streams: Sequence[str]) -> list[str]:
    """Name of each method: one name on all streams, never one name for two methods of a stream."""
    labels = [method.results[0].strategy.label for method in methods]
    names = list(labels)
    for label in set(labels):
        members = [i for i, own in enumerate(labels) if own == label]
        facts = {i: _facts(methods[i]) for i in members}
        differing = sorted(
            {
                name
                for a, b in itertools.combinations(members, 2)
                if streams[a] == streams[b]
                for name in facts[a].keys() | facts[b].keys()
                if facts[a].get(name) != facts[b].get(name)
            }
        )
        if len({facts[i]["hyper-parameters"] for i in members}) > 1:
            differing = sorted({*differing, "hyper-parameters"})
        for i in members:
            words = ", ".join(_said(name, facts[i].get(name)) for name in differing)
            names[i] = f"{label} ({words})" if words else label
    return _numbered(names, streams)


def _facts(method: Method) -> Facts:
    """Facts by which methods of one strategy may differ on one stream."""
    result = method.results[0]
    facts: Facts = dict(result.strategy.config)
    facts["file"] = result.strategy.source_hash[:6]
    facts["speed options"] = " ".join(result.numerics.words()) if result.numerics else None
    facts["weights"] = result.backbone and result.backbone.weights[:6]
    mode = method.study.plan.mode if method.study else None
    facts["hyper-parameters"] = BY_HAND.partition(" ")[0] if mode is None else f"tuned, {mode}"
    return facts


def _said(name: str, value: object) -> str:
    return str(value) if name == "hyper-parameters" else f"{name} {short(value, 24)}"


def _numbered(names: Sequence[str], streams: Sequence[str]) -> list[str]:
    """Names with a number added where two methods of one stream agree in every fact."""
    seen: dict[tuple[str, str], int] = {}
    found = []
    for name, stream in zip(names, streams, strict=True):
        count = seen[name, stream] = seen.get((name, stream), 0) + 1
        found.append(name if count == 1 else f"{name} #{count}")
    return found
