"""Damage files that clgym wrote, use them, and count what comes of it.

    python benchmarks/mutations.py --count 500

A round takes a whole set of files, changes one of them (bits flipped, the end cut off, bytes
appended, at random places) and does what a user would do next: continue the interrupted run, give
the command of a finished run again, verify the study, load the data set. What may come of it:

    error       one named error, or a problem that `clgym verify` lists
    recovered   the right result: what was damaged was not needed, or was made anew
    traceback   an error of Python's that nobody named
    silent      another result than the right one, and no word about it

Exit code 1 if there is a traceback or a silent one.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

PLUGIN = '''"""Naive that fails at the end of the third experience while a file is there."""
from pathlib import Path
from clgym.strategies.naive import Naive


class Dies(Naive):
    """Naive, with an end."""

    def train(self, experience):
        super().train(experience)
        if experience.index == 2 and Path("FLAG").exists():
            raise RuntimeError("the end")
'''


@dataclass(frozen=True)
class Kind:
    """A set of files, and what they are for."""

    name: str
    folder: Path
    """The whole files; a round works on a copy."""
    use: Callable[[Path], Any]
    """What is made of a copy; equal whenever the result is the right one."""
    files: tuple[str, ...] = ("**/*",)
    """Which are damaged."""


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Another content."""
    kind = chance.choice(["flip", "cut", "append"]) if data else "append"
    if kind == "cut":
        return data[: chance.randrange(len(data))]
    if kind == "append":
        return data + chance.randbytes(chance.randint(1, 100))
    changed = bytearray(data)
    for place in {chance.randrange(len(data)) for _ in range(chance.randint(1, 5))}:
        changed[place] ^= 1 << chance.randrange(8)
    return bytes(changed)


def outcome(kind: Kind, copy: Path, right: Any) -> str:
    """What comes of a damaged copy."""
    from clgym.errors import ClgymError

    try:
        result = kind.use(copy)
    except ClgymError:
        return "error"
    except Exception as error:  # whatever it is, nobody named it
        return f"traceback ({type(error).__name__})"
    return "recovered" if result == right else "silent"


def damage(kind: Kind, work: Path, count: int, chance: random.Random) -> Iterator[tuple[str, str]]:
    """Damage a file ``count`` times: the kind of file, and what came of it."""
    right = kind.use(shutil.copytree(kind.folder, work / "whole"))
    names = sorted(
        str(path.relative_to(kind.folder))
        for pattern in kind.files
        for path in kind.folder.glob(pattern)
        if path.is_file()
    )
    for number in range(count):
        name = names[number % len(names)]
        copy = shutil.copytree(kind.folder, work / f"{kind.name}-{number}")
        data = (copy / name).read_bytes()
        (copy / name).unlink()  # files of the cache may only be read
        (copy / name).write_bytes(mutated(data, chance))
        yield name, outcome(kind, copy, right)
        shutil.rmtree(copy, ignore_errors=True)


# --- what is done with the files -----------------------------------------------------------------


def runs(folder: Path) -> Iterator[Kind]:
    """An interrupted run, and a finished one."""
    from clgym.errors import StrategyFailed
    from clgym.gym.request import Request
    from clgym.gym.run import run

    flag, plugin = folder / "flag", folder / "dies.py"
    plugin.write_text(PLUGIN.replace("FLAG", str(flag)))
    request = Request(
        "dies",
        "split-digits",
        strategy_config={"network": "mlp"},
        plugins=(plugin,),
        threads=1,
        engine="inline",
        checkpoint_minutes=1e-6,
    )
    run(replace(request, out=folder / "finished"))
    flag.touch()
    try:
        run(replace(request, out=folder / "cut"))
    except StrategyFailed:
        flag.unlink()

    def again(copy: Path) -> Any:
        return run(replace(request, out=copy)).result

    yield Kind("interrupted run", folder / "cut", again)
    files = ("record.json", "run.json", "predictions.safetensors")
    yield Kind("finished run", folder / "finished", again, files)

    def on(copy: Path) -> Any:
        whole = replace(request, part=(0, 5), after=copy, out=copy.with_name(f"{copy.name}-on"))
        try:
            return run(whole).result
        finally:
            shutil.rmtree(copy.with_name(f"{copy.name}-on"), ignore_errors=True)

    run(replace(request, part=(0, 3), out=folder / "first"))
    files = ("record.json", "state.safetensors", "predictions.safetensors")
    yield Kind("continued run", folder / "first", on, files)


def study(path: Path) -> Iterator[Kind]:
    """A sealed and evaluated study, audited."""
    patterns = ("certificate.json", "ledger.jsonl", "**/record.json", "**/evaluation.json")
    patterns = (*patterns, "**/predictions.safetensors")
    clgym = [sys.executable, "-m", "clgym"]
    words = ["tune", "naive", "digits-t2", "--trials", "2", "--network", "mlp", "--out", str(path)]
    for command in ([*clgym, *words], [*clgym, "evaluate", str(path)]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    from clgym.errors import Tampered
    from clgym.protocol.verify import verify

    def audited(copy: Path) -> Any:
        audit = verify(copy)
        if audit.problems:
            raise Tampered(expected="a study that holds", found=audit.problems[0], fix="")
        return {
            str(file.relative_to(copy)): file.read_bytes()
            for pattern in patterns
            for file in copy.glob(pattern)
        }

    yield Kind("study", path, audited, patterns)


def caches(folder: Path) -> Iterator[Kind]:
    """Decoded images, corrupted images, features; and the npz file that images come from."""
    from clgym.data.sources import load_source
    from clgym.data.vectors import Table

    generator = np.random.default_rng(0)
    npz = folder / "npz" / "a.npz"
    npz.parent.mkdir()
    images = generator.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    np.savez(npz, images=images, labels=np.arange(60) % 3, classes=np.array(["a", "b", "c"]))
    values = generator.random((20, 8), dtype=np.float32)

    def loaded(cache: Path, file: Path) -> Any:
        os.environ["CLGYM_CACHE"] = str(cache)
        found = load_source(f"npz:{file}")
        halves = [(h.images.tobytes(), h.labels.tobytes()) for h in (found.train, found.test)]
        return found.fingerprint, found.flags, halves

    def looked_up(cache: Path) -> Any:
        os.environ["CLGYM_CACHE"] = str(cache)
        table, rows = Table({"of": "random"}, 20, 8), np.arange(20)
        due = table.missing(rows)
        if len(due):
            table.put(due, values[due])
        return table.get(rows).tobytes()

    loaded(folder / "decoded", npz)
    looked_up(folder / "features")
    # Not by content (sources/meta): what loads by a path does not read it.
    files = tuple(f"sources/{name}/**/*" for name in ("keys", "images", "hashes", "labels"))
    files = (*files, "sources/answers/**/*")
    yield Kind("decoded images", folder / "decoded", lambda copy: loaded(copy, npz), files)
    yield Kind("features", folder / "features", looked_up, ("features/*/*",))

    def read(copy: Path) -> Any:
        found = loaded(copy / "cache", copy / "a.npz")
        # Other content has another fingerprint, which every record names: that is not silent.
        return found if found[0] == whole[0] else whole

    whole = loaded(folder / "whole-cache", npz)
    yield Kind("npz", npz.parent, read)


def corrupted(folder: Path) -> Iterator[Kind]:
    """The corrupted images of an adaptation stream."""
    from clgym.data.sources import load_source
    from clgym.gym.images import StreamImages
    from clgym.gym.request import Request, make_stream

    request = Request("source", "digits-c", scenario_config={"corruptions": "fog", "images": 50})

    def shown(cache: Path) -> Any:
        os.environ["CLGYM_CACHE"] = str(cache)
        stream: Any = make_stream(request)
        images = StreamImages(stream, [load_source("digits")], None, 1)
        return images.gather(0, slice(0, 50)).tobytes()

    shown(folder / "corrupted")
    yield Kind("corrupted images", folder / "corrupted", shown, ("corrupted/*",))


def main() -> int:
    """Run the rounds; 0 if nothing was silent or nameless."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="mutations, over all kinds")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clgym-mutations-") as place:
        folder = Path(place)
        os.environ["CLGYM_CACHE"] = str(folder / "cache")
        made = [*runs(folder), *study(folder / "study"), *caches(folder), *corrupted(folder)]
        bad = 0
        for number, kind in enumerate(made):
            share = options.count // len(made) + (number < options.count % len(made))
            work = folder / "work" / str(number)
            work.mkdir(parents=True)
            chance = random.Random(options.seed + number)
            found = Counter[str]()
            for name, word in damage(kind, work, share, chance):
                found[word] += 1
                if word not in ("error", "recovered"):
                    bad += 1
                    sys.stdout.write(f"  {kind.name}: {name}: {word}\n")
            counts = ", ".join(f"{word} {count}" for word, count in sorted(found.items()))
            sys.stdout.write(f"{kind.name}: {share} mutations: {counts}\n")
            sys.stdout.flush()
            shutil.rmtree(work, ignore_errors=True)
    sys.stdout.write(f"{bad} of {options.count} silent or nameless\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
