"""Run on file systems that fill up or turn read-only; then give the command again with room.

    python benchmarks/full_disk.py [--sizes 12]

A file system in memory (Linux; a user's own name space, or root) holds the output. Sizes rise from
one page to what an undisturbed run needs, so that the space ends at every kind of file; one is
read-only when a run that was killed is continued. Each time the command must end with a named
error, and after room is made the same command must end with the undisturbed run's result. Exit code
1 otherwise.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = ("naive", "split-digits", "--network", "mlp", "--epochs", "1", "--threads", "1")
SAVES = ("--checkpoint-minutes", "0.005")
INSIDE = "CLGYM_FULL_DISK_INSIDE"
"""Set in the process that may mount."""


def main() -> int:
    """Enter a name space of its own, then try every size; 1 if one does not hold."""
    parser = argparse.ArgumentParser(description="Run on disks that fill up.")
    parser.add_argument("--sizes", type=int, default=12)
    asked = parser.parse_args()
    if INSIDE not in os.environ:
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "-rm", sys.executable, *sys.argv])
    with tempfile.TemporaryDirectory(prefix="clgym-full-disk-") as name:
        place = Path(name) / "disk"
        place.mkdir()
        mount("mount", "-t", "tmpfs", "-o", "size=64m", "none", str(place))
        given(place / "whole")
        whole, needed = result(place / "whole"), used(place / "whole")
        print("| room | the command | given again with room |\n|---|---|---|")
        sizes = [4096 * round(needed * n / asked.sizes / 4096) for n in range(asked.sizes)]
        rows = [filled(Path(name) / f"full-{n}", max(n, 4096), whole) for n in sizes]
        rows.append(read_only(Path(name) / "read-only", whole))
        mount("umount", str(place))
    return 0 if all(rows) else 1


def mount(*words: str) -> None:
    """Change what is mounted."""
    subprocess.run(words, check=True)


def given(out: Path) -> tuple[int, str]:
    """Give the command: its exit code, and the last line it said."""
    done = subprocess.run(command(out), capture_output=True, text=True)
    return done.returncode, (done.stderr.strip().splitlines() or [""])[-1]


def command(out: Path) -> list[str]:
    """The command with this output folder."""
    return [sys.executable, "-m", "clgym", "run", *WORDS, *SAVES, "--out", str(out)]


def result(out: Path) -> object:
    """The record's result."""
    return json.loads((out / "record.json").read_text())["result"]


def used(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def filled(place: Path, size: int, whole: object) -> bool:
    """One disk of a size in bytes that is too small."""
    place.mkdir()
    mount("mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place))
    code, said = given(place / "run")
    mount("mount", "-o", "remount,size=64m", str(place))
    return row(f"{size // 1024} KiB", code, said, place, whole)


def read_only(place: Path, whole: object) -> bool:
    """One disk that is read-only when a run that was killed after its first save is continued."""
    place.mkdir()
    mount("mount", "-t", "tmpfs", "-o", "size=64m", "none", str(place))
    begun = subprocess.Popen(command(place / "run"), stderr=subprocess.DEVNULL)
    while begun.poll() is None and not (place / "run/progress.json").exists():
        time.sleep(0.01)
    begun.kill()
    begun.wait()
    # The system refuses this while a file is open for writing, such as the killed run's lock.
    while subprocess.run(["mount", "-o", "remount,ro", str(place)], capture_output=True).returncode:
        time.sleep(0.1)
    code, said = given(place / "run")
    mount("mount", "-o", "remount,rw", str(place))
    return row("read-only, a killed run is continued", code, said, place, whole)


def row(what: str, code: int, said: str, place: Path, whole: object) -> bool:
    """Give the command again, print a line of the table; whether all held."""
    named = "No space left" in said or "Read-only" in said
    first = "named error" if code and named else f"code {code}: {said[:200]}"
    code, said = given(place / "run")
    equal = code == 0 and result(place / "run") == whole
    print(
        f"| {what} | {first} | {'equal' if equal else f'code {code}: {said[:200]}'} |", flush=True
    )
    mount("umount", str(place))
    return equal and first == "named error"


if __name__ == "__main__":
    sys.exit(main())
