"""List strategies, scenarios, pairs, sources and networks."""

import json
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clgym import registry
from clgym.cli._flags import as_text
from clgym.cli._parser import Parser, add_data_root_option, add_plugin_option
from clgym.registry import Kind

__all__ = ["main", "network_names"]

KINDS = ("strategies", "scenarios", "pairs", "sources", "networks")
_PLUGINS: tuple[Kind, ...] = ("strategies", "scenarios", "sources")
_HERE = "[data here]"
_LEARNERS = ("network", "memory_size")
"""Options that a preset only proposes to strategies; `clgym show` lists them."""


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym list``; built-in plugins are parsed, those of other packages imported."""
    parser = Parser("clgym list", __doc__)
    parser.add_argument("kind", nargs="?", choices=KINDS, help="Kind. (default: all)")
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    add_data_root_option(parser)
    add_plugin_option(parser)
    values = parser.parse(words)
    kinds = [values.kind] if values.kind else KINDS
    listed = {kind: _listed(kind, values.plugin, values.data_root) for kind in kinds}
    if values.json:
        print(json.dumps(listed, indent=1))
    else:
        _show(listed)
    return 0


def _listed(kind: str, plugins: list[Path], root: Path | None) -> list[dict[str, object]]:
    """Entries of a kind, sorted by name."""
    found: list[dict[str, object]] = []
    if kind in _PLUGINS:
        found += [_plugin(kind, entry, root) for entry in registry.entries(kind, plugins).values()]
    found += {"sources": _sources, "pairs": _pairs, "networks": _networks}.get(kind, _none)(root)
    return sorted(found, key=lambda item: str(item["name"]))


def _none(root: Path | None) -> list[dict[str, object]]:
    return []


def _plugin(kind: Kind, entry: registry.PluginEntry, root: Path | None) -> dict[str, object]:
    from clgym.data.available import preset_data_here

    here = [name for name, options in entry.presets.items() if preset_data_here(options, root)]
    return {
        "name": entry.name,
        "summary": entry.summary,
        "origin": entry.origin,
        "aliases": list(entry.aliases),
        "variants": list(entry.variants),
        "presets": entry.presets,
        "presets_with_data_here": here,
        "error": entry.error if entry.origin == "built-in" else _fault(kind, entry),
    }


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


def _sources(root: Path | None) -> list[dict[str, object]]:
    from clgym.data.available import source_here
    from clgym.data.cards import CARDS

    return [
        {
            "name": card.name,
            "summary": card.title,
            "classes": card.class_count,
            "train": card.train,
            "test": card.test,
            "licence": card.licence,
            "here": source_here(card.name, root),
        }
        for card in CARDS.values()
    ]


def _pairs(root: Path | None) -> list[dict[str, object]]:
    from clgym.data.available import source_here
    from clgym.protocol.pairs import PAIRS

    return [
        {
            "name": pair.name,
            "scenario": pair.scenario,
            "tuning": pair.tuning.words,
            "evaluation": pair.evaluation.words,
            "here": all(source_here(s.source, root) for s in (pair.tuning, pair.evaluation)),
        }
        for pair in PAIRS.values()
    ]


def _networks(root: Path | None) -> list[dict[str, object]]:
    """Networks that `--network` builds; read from the source, since importing it loads torch."""
    return [{"name": name} for name in network_names()]


def network_names() -> list[str]:
    """Names of the networks that are built in."""
    import ast

    file = Path(__file__).parents[1] / "models" / "networks.py"
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "NETWORKS":
            assert isinstance(node.value, ast.Dict)
            return sorted(str(ast.literal_eval(key)) for key in node.value.keys if key)
    raise AssertionError("clgym.models.networks defines NETWORKS")


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
    print(
        f"`clgym show NAME` describes one of them. {_HERE}: the data are on this machine; whether "
        "weights are is not checked."
    )


def _rows(item: Mapping[str, Any]) -> list[tuple[str, str]]:
    tag = f" {_HERE}" if item.get("here") else ""
    if "classes" in item:
        counts = [f"{item[part]:,} {part}" for part in ("train", "test") if item[part]]
        return [(item["name"], ", ".join([f"{item['classes']} classes", *counts]) + tag)]
    if "tuning" in item:
        sides = f"tuning on {item['tuning']}; evaluation on {item['evaluation']}"
        return [(item["name"], f"{item['scenario']}, {sides}{tag}")]
    if "summary" not in item:
        return [(item["name"], "")]
    name = f"{item['name']}:NAME" if item["variants"] else item["name"]
    text = f"cannot be used: {item['error']}" if item["error"] else item["summary"]
    if item["origin"] != "built-in":
        text += f" [{item['origin']}]"
    rows = [(", ".join([name, *item["aliases"]]), text)]
    for preset, options in sorted(item["presets"].items()):
        shown = [f"{k} {as_text(v)}" for k, v in options.items() if k not in _LEARNERS]
        tag = f" {_HERE}" if preset in item["presets_with_data_here"] else ""
        rows.append((f"  {preset}", ", ".join(shown).removeprefix("source ") + tag))
    return rows
