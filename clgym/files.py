"""Atomic file writes, locks, checksums, and the canonical form for hashes.

A file is first written under the name ``.NAME.HOST-PID-RANDOM.part``. If the process is killed, the
next process that works in the folder deletes that file (`clear_parts`).
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from clgym.errors import BadOutput
from clgym.text import printable

__all__ = [
    "canonical_json",
    "clear_parts",
    "dump_checked",
    "file_sha256",
    "load_checked",
    "locked",
    "part_name",
    "repeated_keys",
    "sha256",
    "write_atomic",
    "write_whole",
    "writing",
]

_STALE_SECONDS = 7 * 86400
"""Age in seconds from which a temporary file counts as abandoned, even if another host wrote it."""
_PART = re.compile(r"\..+\.(?P<host>[^.]+)-(?P<pid>\d+)-[0-9a-f]{8}\.part")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into a named error.

    Raises:
        BadOutput: There is no space or no permission, or a file in place of a folder.
    """
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: ("space for the output", "Free some space and repeat the command"),
            errno.EDQUOT: ("space for the output", "Free some space and repeat the command"),
        }
        expected, fix = reasons.get(
            error.errno or 0, ("a folder that can be written", "Give --out another folder")
        )
        raise BadOutput(expected=expected, found=f"{error.strerror} at {path}", fix=fix) from error


def write_atomic(path: Path, data: bytes) -> None:
    """Write under a temporary name, flush to the disk, rename: no file is ever incomplete.

    Raises:
        BadOutput: The operating system refused.
    """
    with writing(path), write_whole(path) as file:
        file.write(data)


@contextlib.contextmanager
def write_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file for writing, which is renamed once all of it is on the disk.

    Raises:
        OSError: The operating system refused; no temporary file is left.
    """
    part = path.with_name(part_name(path.name))
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def part_name(name: str) -> str:
    """Temporary name that no other writer uses, and that states host and process."""
    return f".{name}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.part"


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", socket.gethostname()) or "_"


def clear_parts(folder: Path, alone: bool = False) -> None:
    """Delete the temporary files that killed processes left in a folder.

    Args:
        folder: The folder; subfolders are ignored.
        alone: Whether no other process can write there (a locked folder), so that all are deleted.
    """
    with contextlib.suppress(OSError):
        for part in folder.glob(".*.part"):
            if alone or _is_left(part):
                with contextlib.suppress(OSError):
                    shutil.rmtree(part) if part.is_dir() else part.unlink()


def _is_left(part: Path) -> bool:
    """Whether a temporary file is abandoned: its process here has ended, or the file is old."""
    found = _PART.fullmatch(part.name)
    # Only on POSIX systems signal 0 tests whether a process exists; on Windows it is Ctrl-C.
    if os.name == "posix" and found and found["host"] == _host():
        try:
            os.kill(int(found["pid"]), 0)
        except ProcessLookupError:
            return True
        except (OverflowError, PermissionError):
            pass
    return time.time() - part.stat().st_mtime > _STALE_SECONDS


@contextlib.contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[None]:
    """Hold a lock file, which the system releases when the process ends for any reason.

    Args:
        path: The lock file, which is used for nothing else.
        wait: Whether to wait for another holder instead of raising an error.

    Raises:
        BadOutput: Another process holds the lock, or the file cannot be made.
    """
    # imported here, since it takes 40 ms, which commands without a lock need not spend
    import filelock

    lock = filelock.FileLock(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=wait)
        except filelock.Timeout:
            raise BadOutput(
                expected=f"no other process to work in {path.parent}",
                found="one that is still running",
                fix="Wait for it, or give another --out",
            ) from None
    try:
        yield
    finally:
        lock.release()


def dump_checked(body: Any) -> bytes:
    """JSON of a value with its SHA-256; `load_checked` reads it.

    This is not the canonical form, so that texts keep their Unicode composition.
    """
    text = json.dumps(body, sort_keys=True, allow_nan=False)
    return f'{{"body": {text}, "sha256": "{sha256(text.encode())}"}}\n'.encode()


def load_checked(data: bytes) -> Any:
    """Return the value that `dump_checked` wrote.

    Raises:
        ValueError: A byte was changed.
    """
    try:
        body = json.loads(data)["body"]
        same = dump_checked(body) == data
    except (ValueError, TypeError, KeyError, RecursionError):
        same, body = False, None
    if not same:
        raise ValueError("its content does not match its checksum")
    return body


def canonical_json(value: Any) -> bytes:
    """Canonical bytes of a JSON value: sorted keys, no spaces, UTF-8, NFC; NaN is refused."""
    text = json.dumps(
        _normalised(value),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )
    return text.encode()


def _normalised(value: Any) -> Any:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, dict):
        return {_normalised(key): _normalised(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_normalised(v) for v in value]
    return value


def repeated_keys(data: bytes) -> Iterator[str]:
    """Yield keys that stand twice in a JSON object, of which readers take the first or the last."""
    found: list[str] = []

    def note(pairs: list[tuple[str, object]]) -> dict[str, object]:
        counts = Counter(key for key, _ in pairs)
        found.extend(key for key, count in counts.items() if count > 1)
        return dict(pairs)

    try:
        json.loads(data, object_pairs_hook=note)
    except ValueError:
        return  # whoever reads the values says what is wrong
    yield from (f"the key {printable(key)!r} more than once" for key in found)


def sha256(data: bytes) -> str:
    """Hex digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """Hex digest of a file, which may exceed memory.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
