"""Memory and start of runs over a source that may exceed memory, as Markdown tables.

    python benchmarks/big_source.py [--gb 1 3 10] [--form npz npz-deflated npy] [--side 64]

A source of so many gigabytes is written (random images of 100 classes), and nmc learns it in ten
experiences: as it is stored, once more from the cache, and with `--resize 32`. `npy` is a source
plugin that maps a `.npy` file. Needs Linux, and three times the size of the source on the disk:
the file, a decompressed copy where it is compressed, the cache.

Memory is read from `/proc/PID/status` of the gym and of its children every 20 milliseconds. `own`
is anonymous memory, which a process has for itself alone (`RssAnon`); `mapped` are pages of files
(`RssFile`), programs and libraries among them, which the system takes back when memory gets short.
`start` is the time from the command to the first step of training, with the interpreter's own
start.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

CLASSES, EXPERIENCES = 100, 10
CHUNK = 64 * 2**20
PLUGIN = '''"""Images that are mapped from a .npy file."""

from pathlib import Path

import numpy as np

from clgym.data.imageset import ImageSet, Labelled


class BigNpy(ImageSet):
    """Random images."""

    folder = "big-npy"
    classes = tuple(map(str, range({classes})))

    def read(self, folder: Path):
        train, test = (
            Labelled(np.load(half / "images.npy", mmap_mode="r"), np.load(half / "labels.npy"), ())
            for half in (folder / "train", folder / "test")
        )
        return train, test
'''


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure runs over large sources.")
    parser.add_argument("--gb", type=float, nargs="*", default=[1.0])
    forms = ("npz", "npz-deflated", "npy")
    parser.add_argument("--form", nargs="*", choices=forms, default=["npz"])
    parser.add_argument("--side", type=int, default=64, help="Side of an image in pixels.")
    parser.add_argument("--folder", type=Path, help="Where there is space; the temporary folder.")
    parser.add_argument("--carry-out", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.carry_out:
        return carry_out(*asked.carry_out)
    sys.stdout.write(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n\n")
    parts = ("first: own", "mapped", "later: own", "mapped")
    names = [
        "source",
        "run",
        "start",
        "whole",
        *(f"{p} {n}" for p in ("gym", "learner") for n in parts),
    ]
    sys.stdout.write(f"| {' | '.join(names)} |\n{'|---' * len(names)}|\n")
    for size in asked.gb:
        for form in asked.form:
            with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
                measure(Path(folder), form, int(size * 1e9), asked.side)


def measure(folder: Path, form: str, size: int, side: int) -> None:
    """One source: its first run, its second, and one with smaller images."""
    source = write_source(folder, form, size, side)
    environment = {
        **os.environ,
        "CLGYM_CACHE": str(folder / "cache"),
        "CLGYM_DATA": str(folder),
        "CLGYM_STATE": str(folder / "state"),
    }
    for name, resize in (("first", "0"), ("second", "0"), ("`--resize 32`", "32")):
        words = [sys.executable, __file__, "--carry-out", source, resize, str(folder / name[:6])]
        watched = Watched(
            subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
        )
        cells = [f"{size / 1e9:g} GB {form}", name, *watched.cells()]
        sys.stdout.write(f"| {' | '.join(cells)} |\n")
        sys.stdout.flush()


# --- sources -------------------------------------------------------------------------------------


def write_source(folder: Path, form: str, size: int, side: int) -> str:
    """Write a source of ``size`` bytes, a twentieth for testing; its name for ``--source``."""
    count = size // (side * side * 3)
    halves = {"train": count - count // 20, "test": count // 20}
    for number, (half, rows) in enumerate(halves.items()):
        labels = np.arange(rows) % CLASSES
        if form == "npy":
            write_npy(folder / "big-npy" / half, labels, side, number)
        else:
            write_npz(folder / "big" / f"{half}.npz", form, labels, side, number)
    if form == "npy":
        (folder / "big_npy.py").write_text(PLUGIN.format(classes=CLASSES))
        return str(folder / "big_npy.py")
    return f"npz:{folder / 'big'}"


def write_npy(folder: Path, labels: np.ndarray, side: int, seed: int) -> None:
    """Two files of one half."""
    folder.mkdir(parents=True)
    np.save(folder / "labels.npy", labels)
    with (folder / "images.npy").open("wb") as file:
        write_images(file, len(labels), side, seed)


def write_npz(path: Path, form: str, labels: np.ndarray, side: int, seed: int) -> None:
    """One archive of one half."""
    path.parent.mkdir(exist_ok=True)
    kind = zipfile.ZIP_STORED if form == "npz" else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w", kind, compresslevel=1) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as file:
            write_images(file, len(labels), side, seed)
        for name, array in (("labels", labels), ("classes", np.arange(CLASSES).astype(str))):
            with archive.open(f"{name}.npy", "w") as file:
                np.save(file, array)


def write_images(file: IO[bytes], count: int, side: int, seed: int) -> None:
    """Random images, chunk by chunk: half of the bits of a byte, so that they can be compressed."""
    fields = {"descr": "|u1", "fortran_order": False, "shape": (count, side, side, 3)}
    np.lib.format.write_array_header_1_0(file, fields)
    generator, left = np.random.default_rng(seed), count * side * side * 3
    while left:
        part = np.frombuffer(generator.bytes(min(CHUNK, left)), np.uint8) & 0xAA
        file.write(part.data)
        left -= len(part)


# --- runs ----------------------------------------------------------------------------------------


def carry_out(source: str, resize: str, out: str) -> None:
    """Be the gym of a run, and tell when training begins and an experience is scored."""
    import clgym
    from clgym.messages import Scored, TrainProgress

    def on_event(event: object) -> None:
        if isinstance(event, (TrainProgress, Scored)):
            sys.stdout.write(f"{type(event).__name__}\n")
            sys.stdout.flush()

    options = {"increments": CLASSES // EXPERIENCES}
    options |= {"resize": int(resize)} if resize != "0" else {}
    clgym.run(
        "nmc", "class-incremental", scenario_config=options, source=source, out=out,
        callbacks=[on_event], threads=1,
    )  # fmt: skip


class Watched:
    """The largest memory of a gym and of its learners, until the first score and after it."""

    def __init__(self, gym: subprocess.Popen[str]) -> None:
        """Watch a gym until it ends."""
        self.began, self.start = time.perf_counter(), 0.0
        self._later, self._ended = False, threading.Event()
        self._peaks: dict[tuple[str, bool, str], int] = {}
        watcher = threading.Thread(target=self._watch, args=(gym.pid,))
        watcher.start()
        assert gym.stdout is not None
        for line in gym.stdout:
            if line.startswith("TrainProgress"):
                self.start = self.start or time.perf_counter() - self.began
            self._later |= line.startswith("Scored")
        code = gym.wait()
        self.whole = time.perf_counter() - self.began
        self._ended.set()
        watcher.join()
        if code:
            sys.exit(f"the run ended with {code}")

    def cells(self) -> list[str]:
        """Seconds and megabytes."""
        memory = [
            f"{self._peaks.get((role, later, kind), 0) / 1000:.0f} MB"
            for role in ("gym", "learner")
            for later in (False, True)
            for kind in ("RssAnon", "RssFile")
        ]
        return [f"{self.start:.1f} s", f"{self.whole:.1f} s", *memory]

    def _watch(self, gym: int) -> None:
        while not self._ended.wait(0.02):
            for pid in family(gym):
                role = "gym" if pid == gym else "learner"
                for kind, size in resident(pid):
                    key = (role, self._later, kind)
                    self._peaks[key] = max(self._peaks.get(key, 0), size)


def family(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def resident(pid: int) -> Iterator[tuple[str, int]]:
    """Anonymous and mapped memory of a process, in kilobytes of 1024 bytes."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("RssAnon", "RssFile"):
                yield name, int(value.split()[0]) * 1024 // 1000


if __name__ == "__main__":
    main()
