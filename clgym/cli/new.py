"""Write a short working file for your own strategy, scenario or source.

The file holds a small commented method that passes `clgym check`, and comes with a one-line test;
`--kind` chooses among strategies that train by SGD, build on a pretrained network, and so on.
In a checkout of clgym the file is written to strategies/ or scenarios/, whose tests include it.
"""

import keyword
import string
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from clgym import registry
from clgym._checkout import ROOT
from clgym.cli._parser import BadUsage, Parser
from clgym.errors import BadConfig, BadOutput, DuplicateName
from clgym.files import write_atomic
from clgym.registry import Kind

__all__ = ["main"]

KINDS: dict[str, Kind] = {"strategy": "strategies", "scenario": "scenarios", "source": "sources"}
STRATEGIES = ("plain", "sgd", "pretrained", "test-time", "avalanche", "wrapper")
"""Kinds of strategies, each with a template of its own."""
_TEST = '''"""$TITLE passes clgym's checks."""

from clgym import check_$KIND
from $MODULE import $CLASS


def test_$MODULE() -> None:
    check_$KIND($CLASS)
'''


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym new``."""
    parser = Parser("clgym new", __doc__)
    parser.add_argument("kind", choices=KINDS, help="Kind of the plugin.")
    parser.add_argument("name", help="Name of the plugin; my-method becomes my_method.py.")
    parser.add_argument(
        "--kind",
        dest="template",
        choices=STRATEGIES,
        help="Kind of the strategy: plain, trained by SGD, on a pretrained network, adapting at "
        "test time, of Avalanche's templates and plugins, or around another. (default: plain)",
    )
    values = parser.parse(words)
    module = values.name.lower().replace("-", "_")
    _check_name(values.kind, module)
    if values.template is not None and values.kind != "strategy":
        raise BadUsage(
            expected="--kind with a strategy only",
            found=f"--kind {values.template} with a {values.kind}",
            fix="Remove --kind",
        )
    for path, text in _files(values.kind, module, values.template or "plain").items():
        write_atomic(path, text.encode())
        print(f"wrote {path}")
    _say_next(values.kind, module, values.template or "plain")
    return 0


def _check_name(kind: str, module: str) -> None:
    if not module.isidentifier() or keyword.iskeyword(module) or module.startswith("_"):
        raise BadConfig(
            expected="a name of letters, digits and hyphens, with a letter first",
            found=repr(module),
            fix="Give another name",
        )
    name = module.replace("_", "-")
    for entry in registry.entries(KINDS[kind]).values():
        if name in (entry.name, *entry.presets, *entry.aliases):
            raise DuplicateName(
                expected=f"a new name for the {kind}",
                found=f"{name!r}, which exists: {entry.summary}",
                fix="Give another name",
            )


def _files(kind: str, module: str, template: str) -> dict[Path, str]:
    """Contents of the files to write, by path.

    Raises:
        BadOutput: One of the files exists already.
    """
    words = {
        "NAME": module.replace("_", "-"),
        "TITLE": module.replace("_", " ").capitalize(),
        "CLASS": "".join(part.capitalize() for part in module.split("_")),
        "MODULE": module,
        "KIND": kind,
    }
    file = kind if template == "plain" else f"{kind}-{template}"
    text = resources.files("clgym").joinpath(f"templates/{file}.py.txt").read_text()
    folder = Path.cwd()
    inside = folder == ROOT and kind != "source"
    files = {Path(KINDS[kind] if inside else "") / f"{module}.py": text}
    if not inside:
        files[Path(f"test_{module}.py")] = _TEST
    for path in files:
        if path.exists():
            raise BadOutput(
                expected=f"no file {path} yet",
                found="an existing file",
                fix="Give another name, or delete it",
            )
    return {path: string.Template(t).substitute(words) for path, t in files.items()}


def _say_next(kind: str, module: str, template: str) -> None:
    name, file = module.replace("_", "-"), f"{module}.py"
    stream = "digits-c" if template == "test-time" else "split-digits"
    run = {
        "strategy": f"clgym run {name} {stream} --plugin {file}",
        "scenario": f"clgym run nmc {name}-digits --plugin {file}",
        "source": f"clgym run nmc class-incremental --source {name} --increments 1 --plugin {file}",
    }[kind]
    if Path.cwd() == ROOT:
        run, file = run.partition(" --plugin")[0], name
    print(f"next: clgym check {file}\n      {run}")
