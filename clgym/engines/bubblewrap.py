"""Sandbox by Bubblewrap, for kernels without Landlock: a program in its own namespaces.

https://github.com/containers/bubblewrap. Landlock takes rights from a running process; Bubblewrap
starts a program that sees only what is mounted for it: there are no other files, no other processes
and no network.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NoReturn

from clgym.engines.rules import Rules

__all__ = ["enter", "works"]

_ENFORCED = "bubblewrap: files, network, processes, shared memory"
_APART = (
    *("--unshare-pid", "--unshare-net", "--unshare-ipc", "--die-with-parent"),
    *("--cap-drop", "ALL", "--dev", "/dev", "--proc", "/proc"),
)
_MADE = (Path("/proc"), Path("/dev"))
"""Folders that every sandbox makes itself."""
_PATIENCE = 20.0
"""Maximum duration of the trial of Bubblewrap in seconds."""


@cache
def works() -> bool:
    """Whether Bubblewrap is installed and this user may create the namespaces that it needs."""
    program = shutil.which("bwrap")
    if program is None or sys.platform != "linux":
        return False
    trial = [program, "--ro-bind", "/", "/", *_APART, shutil.which("true") or "true"]
    try:
        done = subprocess.run(trial, capture_output=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def enter(rules: Rules, named: Iterable[str | Path], command: Sequence[str]) -> NoReturn:
    """Replace this process by a command in the sandbox, with all inheritable file descriptors.

    Args:
        rules: Rights of the command, by paths without symbolic links.
        named: Paths with symbolic links that the command uses, such as those of Python.
        command: The command; a description of what is enforced is added as its last argument.

    Raises:
        OSError: The program cannot be started.
    """
    program = shutil.which("bwrap") or "bwrap"
    arguments = [*_APART, *_mounts(rules, [*named, *sys.path, Path.cwd()])]
    arguments += ["--dir", str(Path.cwd()), "--remount-ro", "/", "--chdir", str(Path.cwd())]
    listed = os.memfd_create("arguments", 0)  # too many for a command line; inheritable
    with os.fdopen(os.dup(listed), "wb") as file:
        file.write(b"".join(os.fsencode(word) + b"\0" for word in arguments))
    os.lseek(listed, 0, os.SEEK_SET)
    words = [program, "--args", str(listed), "--", *command, _ENFORCED]
    os.execv(program, words)  # nosec B606 # no shell is wanted


def _mounts(rules: Rules, named: Iterable[str | Path]) -> Iterator[str]:
    """Arguments that mount the paths that the rules allow, and make symbolic links to them."""
    read = _outermost(rules.read)
    for target, link in dict.fromkeys(_links(named)):
        if read.isdisjoint(link.parents):
            yield from ("--symlink", target, str(link))
    for path in sorted(read):
        yield from ("--ro-bind-try", str(path), str(path))
    for path in rules.names:
        if read.isdisjoint((path, *path.parents)):
            yield from ("--dir", str(path))
    for path in rules.write:
        if not _made(path):
            yield from ("--bind-try", str(path), str(path))
    for path in rules.devices:
        yield from ("--dev-bind-try", str(path), str(path))


def _outermost(paths: Iterable[Path]) -> set[Path]:
    """Paths without those below other ones, and without those that the sandbox makes itself."""
    found = {path for path in paths if not _made(path)}
    return {path for path in found if found.isdisjoint(path.parents)}


def _made(path: Path) -> bool:
    return any(path == made or made in path.parents for made in _MADE)


def _links(paths: Iterable[str | Path]) -> Iterator[tuple[str, Path]]:
    """Symbolic links in absolute paths, each as its target and its place."""
    for path in filter(Path.is_absolute, map(Path, paths)):
        for place in (*reversed(path.parents), path):
            if place.is_symlink():
                target = place.readlink()
                yield str(target), place
                beyond = os.path.normpath(place.parent / target / path.relative_to(place))
                yield from _links([beyond])
                break
