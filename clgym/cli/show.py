"""Show a strategy, scenario, pair, source or network: its text, options, needs and licence.

The folder of a finished run shows its accuracies, what it held and what it cost.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clgym import registry
from clgym.cli._described import DESCRIBED, entry_of, needs_of
from clgym.cli._flags import as_failures, as_text, limits
from clgym.cli._parser import Parser, add_plugin_option
from clgym.errors import MissingData, UnknownName, near
from clgym.results.layout import is_run

if TYPE_CHECKING:
    from rich.console import Console

    from clgym.config import Field
    from clgym.registry import PluginEntry

__all__ = ["main"]

_KINDS = {
    "int": "whole number",
    "float": "number",
    "bool": "true|false",
    "str": "text",
    "ints": "whole numbers",
    "floats": "numbers",
    "strategy": "a strategy",
}


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym show``."""
    parser = Parser("clgym show", __doc__)
    parser.add_argument("name", help="Name of `clgym list`, a file, or a finished run's folder.")
    add_plugin_option(parser)
    parser.add_argument("--json", action="store_true", help="Print JSON instead of text.")
    values = parser.parse(words)
    name, plugins = values.name, tuple(values.plugin)
    if is_run(Path(name)):
        _run(name, values.json)
        return 0
    if registry.is_path(name):
        plugins = (*plugins, Path(name))
    kinds = _kinds(name, plugins)
    if values.json:
        print(json.dumps({k: DESCRIBED[k](own, plugins) for k, own in kinds}, indent=1))
        return 0
    from clgym.cli._console import Console

    console = Console(highlight=False)
    for kind, name in kinds:
        _SHOWN[kind](console, name, plugins)
    return 0


def _run(name: str, as_json: bool) -> None:
    from clgym.results.stored import open_run

    record = open_run(Path(name)).record
    if as_json:
        print(json.dumps(record.model_dump(mode="json"), indent=1))
        return
    from clgym.cli._console import Console
    from clgym.cli._tables import show_record

    show_record(Console(highlight=False), record, name)


def _kinds(name: str, plugins: Sequence[Path]) -> list[tuple[str, str]]:
    """Kinds that have an item of the name, each with the item's own name; several may have one."""
    from clgym.cli.list import network_names
    from clgym.data.cards import CARDS
    from clgym.protocol.pairs import PAIRS

    networks = network_names()
    base, names = name.partition(":")[0].replace("_", "-"), {*CARDS, *PAIRS, *networks}
    kinds: list[tuple[str, str]] = []
    for kind in ("strategies", "scenarios"):
        for entry in registry.entries(kind, plugins).values():
            own = {entry.name, *entry.presets, *entry.aliases}
            names |= own
            if base in own:
                kinds.append((kind, name))
            elif registry.is_path(name) and entry.given == str(Path(name)):
                kinds.append((kind, entry.name))
    if base in CARDS:
        kinds.append(("sources", name))
    kinds += [("pairs", base)] if base in PAIRS else []
    kinds += [("networks", base)] if base in networks else []
    if not kinds:
        raise UnknownName(
            expected="the name of a strategy, scenario, pair, source or network",
            found=repr(name),
            fix=f"{near(name, names)}`clgym list` shows them all",
        )
    return kinds


def _head(console: "Console", kind: str, name: str, doc: str) -> None:
    console.print(f"[bold]{name}[/bold] ({kind})\n")
    # Source lines are longer than many terminals: join a paragraph, let the console wrap it.
    for paragraph in doc.split("\n\n"):
        keep = any(line[:1] in " -*|" for line in paragraph.splitlines())
        text = paragraph if keep else " ".join(paragraph.split())
        console.print(text + "\n", markup=False)


def _strategy(console: "Console", name: str, plugins: tuple[Path, ...]) -> None:
    from clgym.gym.description import describe_strategy
    from clgym.gym.request import FROM_PRESET

    entry = entry_of("strategies", name, plugins)
    _head(console, "strategy", name, entry.doc)
    if entry.variants and entry.argument is None:
        console.print(f"variants: {', '.join(f'{entry.name}:{v}' for v in entry.variants)}\n")
    else:
        described = describe_strategy(name, plugins)
        _options(console, described.fields)
        names = [f.name for f in described.fields if f.name.rpartition(".")[2] in FROM_PRESET]
        if names:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in names)
            console.print(f"a scenario's value overrides the default: {flags}", markup=False)
        console.print(f"needs: {_needs(name, plugins)}")
        if failures := described.known_failures:
            console.print(f"known failures: {as_failures(failures)}", markup=False)
    _facts(console, entry)


def _needs(name: str, plugins: tuple[Path, ...]) -> str:
    """What the gym must provide for the default options, in words."""
    try:
        needs = needs_of(name, plugins)
    except MissingData as error:
        return f"unknown without its default weights ({error.found}). {error.fix}"
    words = {
        "task_ids": "task ids",
        "total_classes": "the number of classes in advance",
        "total_experiences": "the number of experiences in advance",
        "past_data": "the data of past experiences",
    }
    wanted = [text for key, text in words.items() if getattr(needs, key)]
    if needs.memory:
        wanted.append(
            f"a memory of {needs.memory:,} samples, unless the scenario sets another number"
        )
    if needs.memory_bytes is not None:
        wanted.append(f"at most {needs.memory_bytes:,} bytes of state that prediction does not use")
    return f"{', '.join(wanted) or 'nothing'}; works on {', '.join(needs.settings)} streams"


def _scenario(console: "Console", name: str, plugins: tuple[Path, ...]) -> None:
    from clgym.gym.request import scenario_fields

    entry = entry_of("scenarios", name, plugins)
    _head(console, "scenario", name, entry.doc)
    _options(console, scenario_fields(name, plugins))
    if name == entry.name and entry.presets:
        console.print(f"presets: {', '.join(entry.presets)}")
    _facts(console, entry)


def _facts(console: "Console", entry: "PluginEntry") -> None:
    also = f", also called {', '.join(entry.aliases)}" if entry.aliases else ""
    console.print(f"file: {entry.file_name}, {entry.origin}{also}", markup=False)
    console.print(f"sha256 {entry.source_hash}", soft_wrap=True)


def _options(console: "Console", fields: Sequence["Field"]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    if not fields:
        console.print("no options\n")
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for head in ("option", "default", "values", "what it does"):
        table.add_column(head, overflow="fold")
    for field in fields:
        values = "|".join(field.choices) or limits(field) or _KINDS[field.kind]
        default = "required" if field.required else as_text(field.default)
        text = f"{field.help} ({field.effect})" if field.effect else field.help
        table.add_row(f"--{field.name.replace('_', '-')}", default, values, text)
    console.print(table, markup=False)


def _source(console: "Console", name: str, plugins: tuple[Path, ...]) -> None:
    from rich.table import Table

    from clgym.data.sources import find_card

    card = find_card(name)
    console.print(f"[bold]{card.name}[/bold] (source)\n\n{card.title}\n")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(overflow="fold")
    counts = [f"{n:,} {part}" for n, part in ((card.train, "train"), (card.test, "test")) if n]
    table.add_row("images", ", ".join(counts) or "not fixed")
    table.add_row("classes", str(card.class_count))
    table.add_row("licence", card.licence)
    table.add_row("origin", card.origin)
    if card.folders:
        places = [*card.folders, f"{card.name}/{{train,test}}.npz"]
        table.add_row("in the data root", " or ".join(dict.fromkeys(places)))
        way = "clgym fetch " + card.name if card.downloads else "manual, from its origin"
        table.add_row("download", way)
    for part, digest in card.fingerprints.items():
        table.add_row(f"fingerprint, {part}", digest)
    console.print(table, markup=False)


def _pair(console: "Console", name: str, plugins: tuple[Path, ...]) -> None:
    from rich.table import Table

    from clgym.data.available import source_here
    from clgym.protocol.pairs import PAIRS

    pair = PAIRS[name]
    console.print(f"[bold]{pair.name}[/bold] (pair)\n")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("scenario", pair.scenario)
    for option, value in pair.config.items():
        table.add_row(f"  {option}", as_text(value))
    for title, side in (("tuning", pair.tuning), ("evaluation", pair.evaluation)):
        state = "data here" if source_here(side.source) else f"clgym fetch {side.source}"
        table.add_row(title, f"{side.words} ({state})")
    table.add_row("trials, seeds", f"{pair.trials}, {pair.seeds} (defaults of a study)")
    console.print(table, markup=False)
    console.print(f"\nclgym tune STRATEGY {pair.name}", markup=False)


def _network(console: "Console", name: str, plugins: tuple[Path, ...]) -> None:
    """A network has no options of its own; its size depends on the images."""
    console.print(f"[bold]{name}[/bold] (network)\n")
    console.print(
        f"Built for the images of the stream: `clgym run STRATEGY SCENARIO --network {name}`, for "
        "strategies with this option.",
        markup=False,
    )


_SHOWN = {
    "strategies": _strategy,
    "scenarios": _scenario,
    "sources": _source,
    "pairs": _pair,
    "networks": _network,
}
