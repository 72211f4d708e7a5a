"""List strategies, scenarios and sources."""

import json
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clgym import registry
from clgym.cli._flags import as_text
from clgym.cli._parser import Parser, add_plugin_option
from clgym.registry import Kind

__all__ = ["main"]

KINDS: tuple[Kind, ...] = ("strategies", "scenarios", "sources")
_LEARNERS = ("network", "memory_size")
"""Options that a preset only proposes to strategies; `clgym show` lists them."""


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym list``. What is built in is read only; plugins of others are imported."""
    parser = Parser("clgym list", __doc__)
    parser.add_argument("kind", nargs="?", choices=KINDS, help="Kind. (default: all)")
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    add_plugin_option(parser)
    values = parser.parse(words)
    kinds = [values.kind] if values.kind else KINDS
    listed = {kind: _listed(kind, values.plugin) for kind in kinds}
    if values.json:
        print(json.dumps(listed, indent=1))
    else:
        _show(listed)
    return 0


def _listed(kind: Kind, plugins: list[Path]) -> list[dict[str, object]]:
    found = [
        {
            "name": entry.name,
            "summary": entry.summary,
            "origin": entry.origin,
            "aliases": list(entry.aliases),
            "variants": list(entry.variants),
            "presets": entry.presets,
            "error": entry.error if entry.origin == "built-in" else _fault(kind, entry),
        }
        for entry in registry.entries(kind, plugins).values()
    ]
    return [*_sources(), *found] if kind == "sources" else found


def _fault(kind: Kind, entry: registry.PluginEntry) -> str | None:
    """Reason why another distribution's plugin cannot be used; None if it can."""
    if kind == "strategies":
        from clgym.learner.assembly import around_template
        from clgym.strategy import Strategy

        return registry.fault(entry, Strategy, around_template)
    if kind == "scenarios":
        from clgym.scenario import Scenario as Base
    else:
        from clgym.data.imageset import ImageSet as Base
    return registry.fault(entry, Base)


def _sources() -> list[dict[str, object]]:
    from clgym.data.cards import CARDS

    return [
        {
            "name": card.name,
            "summary": card.title,
            "classes": card.class_count,
            "train": card.train,
            "test": card.test,
            "licence": card.licence,
        }
        for card in CARDS.values()
    ]


def _show(listed: dict[str, list[dict[str, object]]]) -> None:
    """One line per entry; wrapped on a terminal, unwrapped in a pipe."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    for kind, items in listed.items():
        rows = [row for item in items for row in _rows(item)]
        column = max((len(name) for name, _ in rows), default=0) + 2
        print(kind)
        for name, text in rows:
            indent = " " * (column + 2)
            lines = textwrap.wrap(text, max(width - column - 2, 20)) or [""]
            print(f"  {name:<{column}}{lines[0]}", *[indent + line for line in lines[1:]], sep="\n")
        print()
    print("`clgym show NAME` tells more about one of them.")


def _rows(item: Mapping[str, Any]) -> list[tuple[str, str]]:
    if "classes" in item:
        counts = [f"{item[part]:,} {part}" for part in ("train", "test") if item[part]]
        return [(item["name"], ", ".join([f"{item['classes']} classes", *counts]))]
    name = f"{item['name']}:NAME" if item["variants"] else item["name"]
    text = f"cannot be used: {item['error']}" if item["error"] else item["summary"]
    if item["origin"] != "built-in":
        text += f" [{item['origin']}]"
    rows = [(", ".join([name, *item["aliases"]]), text)]
    for preset, options in item["presets"].items():
        shown = [f"{k} {as_text(v)}" for k, v in options.items() if k not in _LEARNERS]
        rows.append((f"  {preset}", ", ".join(shown).removeprefix("source ")))
    return rows
