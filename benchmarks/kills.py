"""Kill commands at random moments, give them again, compare with an undisturbed one.

    python benchmarks/kills.py [--kills 200] [--seed 0] [--only WORD ...] [--forked]

Every strategy that needs no weights and no data beside `digits` runs on a small stream; besides
runs there are a study with its evaluation, a download, a paper's claims, and a board. Kills go
round the cases; each is SIGKILL to the command's own process, at a random moment of its undisturbed
length. One that had ended before does not count. Then the command is given again until it succeeds,
and what it leaves is compared. Exit code 1 if anything differs.

With `--forked` commands are forks of this process, which has imported torch, and their learners run
in the same process (`--engine inline`): a fifth of the time, and a kill ends gym and learner at
once, as a power cut does.
"""

import argparse
import functools
import hashlib
import http.server
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from forks import prepare_forks, started_by

from clgym import registry
from clgym.errors import ClgymError
from clgym.gym.description import ask_needs, describe_strategy, open_learner
from clgym.gym.request import Request
from clgym.registry.loading import load_class
from clgym.strategy import Strategy

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"epochs": 1, "network": "mlp", "batch_size": 32}
"""Options that a strategy gets where it has them."""
STREAMS = {
    "adaptation": "digits-c",
    "task-incremental": "task-digits",
    "pretraining": "pretrain-digits",
}
"""Streams by the first setting that a strategy supports; `split-digits` for the others."""
TOY = """
title = "A toy"
authors = "Nobody"
venue = "Nowhere"
year = 2000
link = "https://example.org"
strategies = ["nmc"]
[runs.nmc]
strategy = "nmc"
scenario = "split-digits"
seeds = [0, 1]
[[rows]]
name = "figures"
scale = "lite"
about = "Class means on digits."
hours = 0.01
[[rows.claims]]
of = "nmc"
value = 90
tolerance = 1
measure = "last_accuracy"
where = "here"
known = "own"
"""
REPRODUCE = """
import sys
from pathlib import Path
from clgym.engines.pool import PoolSpec
from clgym.papers import load_paper
from clgym.papers.reproduce import Reproduction
folder = Path(sys.argv[1])
paper = load_paper("toy", folder.parent)
rows = [(paper, paper.by_row["figures"])]
Reproduction(rows, folder / "runs", folder / "board", None, PoolSpec(), lambda e: None).carry_out()
"""
FETCH = """
import hashlib, sys
from dataclasses import replace
from pathlib import Path
from clgym.data.cards import CARDS
from clgym.data.fetch import fetch
folder, url, served = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
files = [served / name for name in CARDS["mnist"].checksums]
md5s = {f.name: hashlib.md5(f.read_bytes()).hexdigest() for f in files}
downloads = tuple((f"{url}/{name}", f"md5:{digest}") for name, digest in md5s.items())
CARDS["mnist"] = replace(CARDS["mnist"], checksums=md5s, downloads=downloads)
fetch("mnist", folder)
"""


@dataclass(frozen=True)
class Case:
    """A command that writes into a folder, and what it leaves there."""

    name: str
    lines: Callable[[Path], list[list[str]]]
    """Command lines, one after the other."""
    left: Callable[[Path], object]


def main() -> int:
    """Kill, continue, compare; 1 if anything differs."""
    parser = argparse.ArgumentParser(description="Kill commands at random moments.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD")
    parser.add_argument("--minutes", type=float, default=1e6, help="Stop after this long.")
    parser.add_argument("--forked", action="store_true")
    asked = parser.parse_args()
    if asked.forked:
        prepare_forks()
    draws, ends = random.Random(asked.seed), time.monotonic() + 60 * asked.minutes
    counts: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory(prefix="clgym-kills-") as name:
        folder = Path(name)
        known, done = {}, 0
        cases = [c for c in all_cases(folder) if not asked.only or _named(c, asked.only)]
        while done < asked.kills and time.monotonic() < ends and cases:
            for case in list(cases):
                if case.name not in known:
                    known[case.name] = undisturbed(case, folder / "whole" / case.name)
                if isinstance(known[case.name], str):
                    print(f"left out: {case.name}: {known[case.name]}", flush=True)
                    cases.remove(case)
                elif done < asked.kills and time.monotonic() < ends:
                    seconds, wanted = known[case.name]
                    out = folder / f"{done}" / case.name
                    if killed_once(case, out, draws.uniform(0.1, 1) * seconds):
                        done += 1
                        equal = again(case, out) == wanted
                        counts.setdefault(case.name, [0, 0])[0 if equal else 1] += 1
                        print("equal" if equal else "DIFFERENT", case.name, flush=True)
                    shutil.rmtree(out.parent, ignore_errors=True)
    for case, (equal, other) in sorted(counts.items()):
        print(f"{case:40}{equal:5} equal {other:3} different")
    equal, other = (sum(pair[i] for pair in counts.values()) for i in (0, 1))
    print(f"{equal} of {equal + other} equal, over {len(counts)} commands")
    return 1 if other else 0


def _named(case: Case, words: list[str]) -> bool:
    return any(word in case.name for word in words)


def all_cases(folder: Path) -> list[Case]:
    """Runs of all strategies, and the other commands."""
    cases = [_run(name) for name in sorted(registry.entries("strategies", ()))]
    return [
        *cases,
        _run_online("nmc"),
        _study(),
        _fetch(folder),
        _reproduce(folder),
        _board(folder),
    ]


def _clgym(*words: str) -> list[str]:
    return [sys.executable, "-m", "clgym", *words]


def _record(out: Path) -> object:
    return json.loads((out / "record.json").read_text())["result"]


class SmallRun(NamedTuple):
    """A strategy on a small stream of its kind."""

    strategy: str
    scenario: str
    options: dict[str, Any]

    @property
    def words(self) -> list[str]:
        """Words behind `clgym run`."""
        pairs = ((_option(name), _word(value)) for name, value in self.options.items())
        return [self.strategy, self.scenario, *itertools.chain.from_iterable(pairs)]


@functools.cache
def small_run(name: str) -> SmallRun:
    """A short run of a strategy, with the options of `clgym check`, which need no weights.

    Raises:
        ClgymError: as the strategy cannot be asked what it needs.
    """
    checked = load_class(registry.find("strategies", name), Strategy).CHECK_CONFIG
    known = {field.name for field in describe_strategy(name, given=checked).fields}
    options = {**{k: v for k, v in SMALL.items() if k in known}, **checked}
    channel = open_learner(Request(name, "", strategy_config=options))
    try:
        needs = ask_needs(name, (), channel, options, "cpu").needs
    finally:
        channel.close()
    return SmallRun(name, STREAMS.get(needs.settings[0], "split-digits"), options)


def _word(value: object) -> str:
    """An option's value on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _run(name: str) -> Case:
    def lines(out: Path) -> list[list[str]]:
        return [_clgym("run", *small_run(name).words, "--out", str(out), *_SAVES)]

    return Case(f"run {name}", lines, _record)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


_SAVES = ("--checkpoint-minutes", "0.005", "--threads", "1")


def _run_online(name: str) -> Case:
    def lines(out: Path) -> list[list[str]]:
        return [_clgym("run", name, "online-digits", "--out", str(out), *_SAVES)]

    return Case(f"run {name}, tests inside", lines, _record)


def _study() -> Case:
    def lines(out: Path) -> list[list[str]]:
        options = ("--trials", "2", "--seeds", "0..0", "--epochs", "1", "--out", str(out))
        return [_clgym("tune", "replay", "digits-t2", *options), _clgym("evaluate", str(out))]

    def left(out: Path) -> object:
        certificate = json.loads((out / "certificate.json").read_text())["hash"]
        records = sorted(out.glob("evaluations/1/seed-*"))
        return certificate, [_record(record) for record in records]

    return Case("tune and evaluate", lines, left)


def _tree(out: Path) -> list[tuple[str, str]]:
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return [(str(p.relative_to(out)), hashlib.sha256(p.read_bytes()).hexdigest()) for p in files]


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):  # type: ignore[no-untyped-def]
        """Nothing to say: the client was killed."""


def _fetch(folder: Path) -> Case:
    """Four files of 8 MB from a server that sends them slowly."""
    from clgym.data.cards import CARDS

    served = folder / "served"
    served.mkdir()
    for number, name in enumerate(CARDS["mnist"].checksums):
        (served / name).write_bytes(random.Random(number).randbytes(2**23))

    class Slow(http.server.SimpleHTTPRequestHandler):
        def copyfile(self, source, outputfile):  # type: ignore[no-untyped-def]
            while block := source.read(2**18):
                outputfile.write(block)
                time.sleep(0.005)

        def log_message(self, format, *args):  # type: ignore[no-untyped-def]
            pass

    handler = functools.partial(Slow, directory=served)
    web = _Server(("127.0.0.1", 0), handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    os.environ["no_proxy"] = "*"
    url = f"http://127.0.0.1:{web.server_port}"

    def left(out: Path) -> object:
        return [item for item in _tree(out) if "/.fetch-" not in f"/{item[0]}"]

    return Case(
        "fetch", lambda out: [[sys.executable, "-c", FETCH, str(out), url, str(served)]], left
    )


def _reproduce(folder: Path) -> Case:
    def lines(out: Path) -> list[list[str]]:
        out.parent.mkdir(parents=True, exist_ok=True)
        (out.parent / "toy.toml").write_text(TOY)
        return [[sys.executable, "-c", REPRODUCE, str(out)]]

    def left(out: Path) -> object:
        records = sorted((out / "board" / "records").rglob("record.json"))
        return [_record(record.parent) for record in records]

    return Case("reproduce", lines, left)


def _board(folder: Path) -> Case:
    """The page of this repository's records: what is left is page and Markdown, byte for byte."""

    def lines(out: Path) -> list[list[str]]:
        copy = out / "leaderboards"
        if not copy.exists():
            shutil.copytree(ROOT / "leaderboards", copy)
        return [_clgym("board", str(copy), "--out", str(out / "site"))]

    return Case(
        "board",
        lines,
        lambda out: [_tree(out / "site"), (out / "leaderboards/README.md").read_text()],
    )


def undisturbed(case: Case, out: Path) -> tuple[float, object] | str:
    """Seconds of the command and what it leaves; why it cannot be carried out here."""
    try:
        lines, started = case.lines(out), time.monotonic()
    except ClgymError as error:
        return str(error)[:160]
    for line in lines:
        with tempfile.TemporaryFile() as said:
            process = started_by(line, said)
            if process.wait():
                said.seek(0)
                return (said.read().decode().strip().splitlines() or ["no word"])[-1][:160]
    return time.monotonic() - started, case.left(out)


def killed_once(case: Case, out: Path, after: float) -> bool:
    """Give the command and kill it after some seconds; False if it had ended."""
    lines, ends = case.lines(out), time.monotonic() + after
    for line in lines:
        process = started_by(line)
        try:
            process.wait(timeout=max(0.0, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return True
    return False


def again(case: Case, out: Path) -> object:
    """Give the command until it succeeds; what it leaves, or its error."""
    for line in case.lines(out):
        with tempfile.TemporaryFile() as said:
            if started_by(line, said).wait():
                said.seek(0)
                words = f"{case.name} is not continued: {said.read().decode()[-500:]}"
                print(words, flush=True)
                return words
    return case.left(out)


if __name__ == "__main__":
    sys.exit(main())
