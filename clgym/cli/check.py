"""Check a strategy, a scenario or a source: small named checks, each with what to do.

Give a name of `clgym list`, or a Python file. Takes seconds, on a few images, on the CPU.
Exit code 1 if a check fails that the plugin does not declare in KNOWN_FAILURES.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from clgym import check, registry
from clgym.cli._parser import BadUsage, Parser
from clgym.cli._plugins import kinds_of
from clgym.errors import ClgymError, UnknownName, near
from clgym.registry import Entry, Kind

__all__ = ["main"]


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym check``."""
    parser = Parser("clgym check", __doc__)
    parser.add_argument("name", help="A name, or a file; FILE:CLASS if it holds several.")
    parser.add_argument("--only", nargs="+", default=[], metavar="CHECK", help="Only these checks.")
    parser.add_argument("--list", action="store_true", help="Say what each check is for, and stop.")
    parser.add_argument("--json", action="store_true", help="Print data instead of lines.")
    parser.add_argument(
        "--plugin",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="A Python file that is needed besides; may be given again.",
    )
    values = parser.parse(words)
    kind, entry, plugins = _asked(values.name, values.plugin)
    checks = check.checks_of(kind)
    names = [c.name for c in checks]
    for name in values.only:
        if name not in names:
            raise UnknownName(
                expected=f"a check of {kind} ({', '.join(names)})",
                found=repr(name),
                fix=f"{near(name, names)}`clgym check NAME --list` explains each",
            )
    if values.list:
        print("\n".join(f"{c.name:<22}{c.purpose}" for c in checks))
        return 0
    found = check.findings_of(kind, entry, plugins, values.only)
    return _as_data(found) if values.json else _as_lines(entry, found)


def _asked(name: str, plugins: list[Path]) -> tuple[Kind, Entry, list[Path]]:
    """What a name or a file stands for."""
    if name.partition(":")[0].endswith(".py"):
        path = Path(name)
        kinds = kinds_of(path)
        if len(kinds) != 1:
            raise BadUsage(
                expected=f"one plugin in {name}",
                found=f"{' and '.join(kinds)}",
                fix=f"Say which one: {name}:CLASS",
            )
        (kind,) = kinds
        plugins = [*plugins, path]
        known = registry.entries(kind, plugins).values()
        (entry,) = (e for e in known if e.path == _file(path) and _same(e, path))
        return kind, registry.find(kind, entry.name, plugins), plugins
    for kind in ("strategies", "scenarios", "sources"):
        with_name = {
            n for e in registry.entries(kind, plugins).values() for n in (e.name, *e.presets, *e.aliases)
        }
        if name.partition(":")[0].replace("_", "-") in with_name:
            return kind, registry.find(kind, name, plugins), plugins
    raise UnknownName(
        expected="a plugin's name or file",
        found=repr(name),
        fix="`clgym list` shows the names; a file ends in .py",
    )


def _as_data(found: Iterator[check.Finding]) -> int:
    items = [asdict(finding) for finding in found]
    print(json.dumps(items, indent=1))
    return int(any(item["status"] == "failed" for item in items))


def _as_lines(entry: Entry, found: Iterator[check.Finding]) -> int:
    marks = {"passed": "ok  ", "failed": "FAIL", "known failure": "known", "skipped": "-   "}
    counts: Counter[str] = Counter()
    print(f"{entry.name} ({entry.origin})")
    for finding in found:
        counts[finding.status] += 1
        print(f"  {marks[finding.status]:<6}{finding.check:<22}{finding.found}", flush=True)
        if finding.fix:
            print(f"        to do: {finding.fix}", flush=True)
    print(", ".join(f"{number} {status}" for status, number in counts.items()))
    return int(counts["failed"] > 0)
