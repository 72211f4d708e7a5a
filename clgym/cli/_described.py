"""What `clgym show --json` prints: options, needs and facts of a named item as plain data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clgym import registry

if TYPE_CHECKING:
    from clgym.config import Field
    from clgym.registry import Kind, PluginEntry

__all__ = ["DESCRIBED", "entry_of", "needs_of"]


_OF_AN_OPTION = (
    "name",
    "kind",
    "default",
    "required",
    "optional",
    "choices",
    "bounds",
    "search",
    "when",
    "help",
)


def entry_of(kind: "Kind", name: str, plugins: Sequence[Path]) -> "PluginEntry":
    """Find an entry like `registry.find`, but accept a file with variants without a variant."""
    known = registry.entries(kind, plugins)
    bare = known.get(name.replace("_", "-"))
    return bare if bare is not None and bare.variants else registry.find(kind, name, plugins)


def needs_of(name: str, plugins: tuple[Path, ...]) -> Any:
    """What the gym must provide for the default options, as reported by a worker.

    Raises:
        MissingData: The default weights are not here.
    """
    from clgym.gym.description import ask_needs, open_learner
    from clgym.gym.request import Request

    channel = open_learner(Request(name, "", plugins=plugins))
    try:
        return ask_needs(name, plugins, channel, {}, "cpu").needs
    finally:
        channel.close()


def _strategy(name: str, plugins: tuple[Path, ...]) -> dict[str, object]:
    from clgym.errors import MissingData
    from clgym.gym.description import describe_strategy

    entry = entry_of("strategies", name, plugins)
    facts = _facts(name, entry)
    if entry.variants and entry.argument is None:
        return facts
    told = describe_strategy(name, plugins)
    try:
        needs = asdict(needs_of(name, plugins))
    except MissingData:
        needs = None
    return {
        **facts,
        "options": _options(told.fields),
        "needs": needs,
        "known_failures": told.known_failures,
    }


def _scenario(name: str, plugins: tuple[Path, ...]) -> dict[str, object]:
    from clgym.gym.request import scenario_fields

    entry = entry_of("scenarios", name, plugins)
    options = _options(scenario_fields(name, plugins))
    return {**_facts(name, entry), "options": options, "presets": entry.presets}


def _facts(name: str, entry: "PluginEntry") -> dict[str, object]:
    return {
        "name": name,
        "text": entry.doc,
        "aliases": entry.aliases,
        "variants": entry.variants,
        "file": entry.file_name,
        "origin": entry.origin,
        "source_hash": entry.source_hash,
    }


def _options(fields: "Sequence[Field]") -> list[dict[str, object]]:
    return [{key: getattr(field, key) for key in _OF_AN_OPTION} for field in fields]


def _source(name: str, plugins: tuple[Path, ...]) -> dict[str, object]:
    from clgym.data.sources import find_card

    return asdict(find_card(name))


def _pair(name: str, plugins: tuple[Path, ...]) -> dict[str, object]:
    from clgym.protocol.pairs import PAIRS

    return PAIRS[name].model_dump(mode="json")


def _network(name: str, plugins: tuple[Path, ...]) -> dict[str, object]:
    return {"name": name}


DESCRIBED: Mapping[str, Callable[[str, tuple[Path, ...]], dict[str, object]]] = {
    "strategies": _strategy,
    "scenarios": _scenario,
    "sources": _source,
    "pairs": _pair,
    "networks": _network,
}
"""By kind: the function that describes an item of a name, with the plugins that the user named."""
