"""Check a strategy, a scenario or a source by small named checks, each with a fix.

Give a name of `clgym list` or a Python file. The checks take seconds, on a few images, on the
CPU. The exit code is 1 if a check fails that the plugin does not declare in KNOWN_FAILURES.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from clgym import check, registry
from clgym.cli._parser import BadUsage, Parser, Several, add_plugin_option
from clgym.errors import UnknownName, near
from clgym.registry import Kind, PluginEntry

__all__ = ["main"]

KINDS: tuple[Kind, ...] = ("strategies", "scenarios", "sources")


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym check``."""
    parser = Parser("clgym check", __doc__)
    parser.add_argument("name", help="Name, file or FOLDER/; FILE:CLASS if it holds several.")
    parser.add_argument(
        "--only", action=Several, default=[], metavar="CHECK", help="Run only these."
    )
    parser.add_argument("--list", action="store_true", help="Describe the checks and exit.")
    parser.add_argument("--json", action="store_true", help="Print JSON instead of text.")
    add_plugin_option(parser)
    values = parser.parse(words)
    kind, entry, plugins = _asked(values.name, values.plugin)
    checks = check.checks_of(kind)
    names = [c.name for c in checks]
    for name in values.only:
        if name not in names:
            raise UnknownName(
                expected=f"a check of {kind} ({', '.join(names)})",
                found=repr(name),
                fix=f"{near(name, names)}`clgym check NAME --list` describes each",
            )
    if values.list:
        print("\n".join(f"{c.name:<22}{c.purpose}" for c in checks))
        return 0
    found = check.findings_of(kind, entry, plugins, values.only)
    return _as_data(found) if values.json else _as_lines(entry, found)


def _asked(name: str, plugins: list[Path]) -> tuple[Kind, PluginEntry, list[Path]]:
    """Kind and entry of the plugin that was named, and the plugin files that define it."""
    file = registry.is_path(name)
    known = [*plugins, Path(name)] if file else plugins
    found: list[tuple[Kind, str]] = []
    names: set[str] = set()
    for kind in KINDS:
        for entry in registry.entries(kind, known).values():
            own = {entry.name, *entry.presets, *entry.aliases}
            names |= own
            fits = (
                entry.given == str(Path(name))
                if file
                else name.partition(":")[0].replace("_", "-") in own
            )
            if fits:
                found.append((kind, entry.name if file else name))
    if not found:
        raise UnknownName(
            expected="the name of a plugin, or a Python file",
            found=repr(name),
            fix=f"{near(name, names)}`clgym list` shows the names",
        )
    kind, found_name = found[0]
    entry = registry.find(kind, found_name, known)
    if len(found) > 1:
        raise BadUsage(
            expected=f"one plugin by the name of {name}",
            found=" and ".join(kind for kind, _ in found),
            fix=f"Give each its own name or its own file; {name}:CLASS chooses one class of a file",
        )
    return kind, entry, known


def _as_data(found: Iterator[check.Finding]) -> int:
    items = [asdict(finding) for finding in found]
    print(json.dumps(items, indent=1))
    return int(any(item["status"] == "failed" for item in items))


def _as_lines(entry: PluginEntry, found: Iterator[check.Finding]) -> int:
    marks = {"passed": "ok  ", "failed": "FAIL", "known failure": "known ", "skipped": "-   "}
    counts: Counter[str] = Counter()
    print(f"{entry.name} ({entry.origin})")
    for finding in found:
        counts[finding.status] += 1
        print(f"  {marks[finding.status]:<6}{finding.check:<22}{finding.found}", flush=True)
        if finding.fix:
            print(f"        to do: {finding.fix}", flush=True)
    print(", ".join(f"{number} {status}" for status, number in counts.items()))
    return int(counts["failed"] > 0)
