"""Change one operator or number of a module at a time, and count the changes that tests notice.

    pip install cosmic-ray
    python benchmarks/mutants.py ledger certificate verify scoring metrics [--sample 150] [--seed 0]

cosmic-ray makes the changed sources ("mutants"). All tests of a module run once on the unchanged
code, so that fixtures exist and it is known which test enters which function. For each mutant a
fork of this process then exchanges the code of the module's functions and runs the tests that enter
the changed function, the quickest first, until one fails. Counted are mutants that import and that
change a function or a plain constant; what only decorators, annotations and fields of classes say
is left out, and so is `is` in place of `==`, which means the same for None and short words. Exit
code 1 if fewer than 85 % of a module's mutants are killed.
"""

import argparse
import contextlib
import difflib
import functools
import importlib
import inspect
import os
import random
import signal
import sys
import time
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 0.85
SECONDS = 120
"""After this long a mutant counts as killed: it does not end."""
PARTS = {
    "ledger": (["protocol.ledger"], ["protocol/test_ledger.py"]),
    "certificate": (
        ["protocol.study", "protocol.outcome"],
        [
            f"protocol/test_{name}.py"
            for name in ("study", "sealing", "outcome", "retry", "pruning", "studies", "verify")
        ],
    ),
    "verify": (
        ["protocol.verify", "protocol.verify_evaluation"],
        [
            f"protocol/test_{name}.py"
            for name in ("verify", "swaps", "retry", "pruning", "threats", "studies")
        ],
    ),
    "scoring": (
        ["gym.scoring"],
        ["gym/test_scoring.py"],
    ),
    "metrics": (["results.metrics"], ["results/test_metrics.py"]),
}
"""Modules and the tests that concern them."""
SKIPPED = ("Variable", "Is_Eq", "Eq_Is", "IsNot_NotEq", "NotEq_IsNot")


@dataclass
class Mutant:
    """A changed source of a module."""

    module: types.ModuleType
    source: str
    change: str
    """The changed line."""
    functions: set[str] = field(default_factory=set)
    """Qualified names of the functions whose code differs; empty where a constant does."""


def mutants(module: types.ModuleType) -> Iterator[Mutant]:
    """All that cosmic-ray makes of a module, but those that change nothing that runs."""
    from cosmic_ray.mutating import mutate_code  # pyright: ignore[reportMissingImports]
    from cosmic_ray.plugins import (  # pyright: ignore[reportMissingImports]
        get_operator,
        operator_names,
    )

    whole = inspect.getsource(module)
    before, constants = _functions(_imported(module, whole)), _constants(_imported(module, whole))
    for name in sorted(operator_names()):
        if any(word in name for word in SKIPPED):
            continue
        for occurrence in range(10_000):
            source = mutate_code(whole, get_operator(name)(), occurrence)
            if source is None:
                break
            with contextlib.suppress(Exception):  # what does not import is no mutant
                fresh = _imported(module, source)
                after = _functions(fresh)
                changed = {q for q in before if q in after and _differ(before[q], after[q])}
                if changed or _constants(fresh) != constants:
                    yield Mutant(module, source, _line(whole, source), changed)


def _imported(module: types.ModuleType, source: str) -> types.ModuleType:
    fresh = types.ModuleType(module.__name__)
    fresh.__file__ = module.__file__
    exec(compile(source, str(module.__file__), "exec"), fresh.__dict__)
    return fresh


def _functions(module: types.ModuleType) -> dict[str, types.FunctionType]:
    """Functions and methods that a module's own code defines, by qualified name."""
    found: dict[str, types.FunctionType] = {}
    todo = [v for v in vars(module).values() if getattr(v, "__module__", "") == module.__name__]
    while todo:
        value: Any = todo.pop()
        if isinstance(value, type):
            todo += vars(value).values()
        elif isinstance(value, property):
            todo += [value.fget, value.fset]
        elif isinstance(value, functools.cached_property):
            todo.append(value.func)
        elif isinstance(value, staticmethod | classmethod) or hasattr(value, "__wrapped__"):
            todo.append(value.__wrapped__)
        elif getattr(getattr(value, "__code__", None), "co_filename", "") == module.__file__:
            found[value.__qualname__] = value
    return found


def _constants(module: types.ModuleType) -> dict[str, object]:
    plain = (int, float, str, bytes, tuple, frozenset)
    return {k: v for k, v in vars(module).items() if isinstance(v, plain) and k[:2] != "__"}


def _differ(one: types.FunctionType, other: types.FunctionType) -> bool:
    defaults = [(f.__defaults__, f.__kwdefaults__) for f in (one, other)]
    return _runs(one.__code__) != _runs(other.__code__) or repr(defaults[0]) != repr(defaults[1])


def _runs(code: types.CodeType) -> tuple[object, ...]:
    """What of a code object decides what it does."""
    constants = [
        _runs(c) if isinstance(c, types.CodeType) else (type(c), c) for c in code.co_consts
    ]
    return (code.co_code, constants, code.co_names, code.co_exceptiontable)


def _line(before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    changed = [x for x in lines if x[:1] in "+-" and x[:3] not in ("+++", "---")]
    pairs = zip(before.splitlines(), after.splitlines(), strict=False)
    number = next(i for i, (old, new) in enumerate(pairs) if old != new)
    olds, news = ([x[1:].strip() for x in changed if x[0] == sign] for sign in "-+")
    return f"line {number + 1}: `{' '.join(olds)}` as `{' '.join(news)}`"


class Trial:
    """A plugin of pytest: runs everything once, then the tests of each mutant in a fork."""

    def __init__(self, modules: list[types.ModuleType], sample: int, seed: int) -> None:
        """Nothing ran yet."""
        self.modules, self.sample, self.seed = modules, sample, seed
        self.entered: dict[str, set[tuple[str, str]]] = {}
        self.seconds: dict[str, float] = {}
        self.failed: dict[str, str] = {}
        self.survivors: list[Mutant] = []
        self.made = self.tried = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note failures."""
        if report.failed:
            self.failed[report.nodeid] = report.longreprtext

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In place of pytest's own loop."""
        files = {str(m.__file__): m.__name__ for m in self.modules}
        for item, following in _in_turn(session.items):
            self._first(item, following, files)
        if self.failed:
            print("tests fail without a mutant:", *self.failed.items(), sep="\n")
            return True
        every = [mutant for module in self.modules for mutant in mutants(module)]
        chosen = random.Random(self.seed).sample(every, min(self.sample, len(every)))
        self.made, self.tried = len(every), len(chosen)
        for mutant in chosen:
            if self._killed(mutant, session):
                print(".", end="", flush=True)
            else:
                self.survivors.append(mutant)
                print(f"\nsurvived: {mutant.module.__name__}, {mutant.change}", flush=True)
        return True

    def _first(self, item: pytest.Item, following: pytest.Item, files: dict[str, str]) -> None:
        entered: set[tuple[str, str]] = set()

        def note(frame: types.FrameType, event: str, _: object) -> None:
            if event == "call" and frame.f_code.co_filename in files:
                name = files[frame.f_code.co_filename]
                entered.add((name, frame.f_code.co_qualname.partition(".<locals>")[0]))

        started = time.perf_counter()
        sys.setprofile(note)
        try:
            _run(item, following)
        finally:
            sys.setprofile(None)
        self.entered[item.nodeid] = entered
        self.seconds[item.nodeid] = time.perf_counter() - started

    def _killed(self, mutant: Mutant, session: pytest.Session) -> bool:
        wanted = {(mutant.module.__name__, name) for name in mutant.functions}
        items = [i for i in session.items if not wanted or self.entered[i.nodeid] & wanted]
        items.sort(key=lambda item: self.seconds[item.nodeid])
        child = os.fork()
        if child == 0:
            signal.alarm(SECONDS)
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, 1), os.dup2(nothing, 2)
            try:
                _exchange(mutant)
                for item, following in _in_turn(items):
                    _run(item, following)
                    if self.failed:
                        os._exit(1)
                os._exit(0)
            finally:
                os._exit(1)
        return os.waitpid(child, 0)[1] != 0


def _in_turn(items: list[pytest.Item]) -> Iterator[tuple[pytest.Item, pytest.Item]]:
    """Each test and the one that follows; after the last the first, so that fixtures stay."""
    return zip(items, [*items[1:], *items[:1]], strict=True)


def _run(item: pytest.Item, following: pytest.Item) -> None:
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)


def _exchange(mutant: Mutant) -> None:
    """Give the module's functions the mutant's code, wherever they were imported to."""
    fresh = _imported(mutant.module, mutant.source)
    after = _functions(fresh)
    for name, function in _functions(mutant.module).items():
        if name in after:
            function.__code__ = after[name].__code__
            function.__defaults__ = after[name].__defaults__
            function.__kwdefaults__ = after[name].__kwdefaults__
    for name, value in _constants(fresh).items():
        setattr(mutant.module, name, value)


def main() -> int:
    """Count and print; 1 if too many survive."""
    parser = argparse.ArgumentParser(description="Count the mutants that tests kill.")
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--sample", type=int, default=10_000, help="Mutants of a part at most.")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rows, least = [], 1.0
    for part in asked.parts:
        names, tests = PARTS[part]
        trial = Trial(
            [importlib.import_module(f"clgym.{name}") for name in names], asked.sample, asked.seed
        )
        paths = [str(ROOT / "tests" / test) for test in tests]
        options = ["-p", "no:cacheprovider", "-p", "no:terminal", f"--rootdir={ROOT}"]
        pytest.main([*options, *paths], plugins=[trial])
        if not trial.tried:
            return 2
        killed = 1 - len(trial.survivors) / trial.tried
        least = min(least, killed)
        rows.append(f"| {part} | {trial.made} | {trial.tried} | {100 * killed:.1f} % |")
        print(rows[-1], flush=True)
    print("\n| part | mutants | tried | killed |\n|---|---|---|---|")
    print("\n".join(rows))
    return 0 if least >= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
