"""Atomic file writes, locks, checksums, and the canonical form for hashes.

A file is written under the name ``.NAME.HOST-PID-RANDOM.part`` first. What a killed process leaves
under such a name is cleared by the next one that works in the folder (`clear_parts`).
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from clgym.errors import BadOutput

__all__ = [
    "canonical_json",
    "clear_parts",
    "dump_checked",
    "file_sha256",
    "load_checked",
    "locked",
    "part_name",
    "sha256",
    "write_atomic",
    "write_whole",
    "writing",
]

_STALE_SECONDS = 7 * 86400
"""Age in seconds from which a temporary file counts as abandoned, whichever host wrote it."""
_PART = re.compile(r"\..+\.(?P<host>[^.]+)-(?P<pid>\d+)-[0-9a-f]{8}\.part")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one named error.

    Raises:
        BadOutput: no space, no permission, or a file where a folder should be.
    """
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: ("space for the output", "Free some space and give the command again"),
            errno.EDQUOT: ("space for the output", "Free some space and give the command again"),
        }
        expected, fix = reasons.get(
            error.errno or 0, ("a folder that can be written", "Give --out another folder")
        )
        raise BadOutput(expected=expected, found=f"{error.strerror} at {path}", fix=fix) from error


def write_atomic(path: Path, data: bytes) -> None:
    """Write under a temporary name, flush to the disk, rename: never a half-written file.

    Raises:
        BadOutput: the operating system refused.
    """
    with writing(path), write_whole(path) as file:
        file.write(data)


@contextlib.contextmanager
def write_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a part of the file for writing; it takes the file's name when all is on the disk.

    Raises:
        OSError: the operating system refused; no part is left.
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
    """A name to write under that no other writer uses, and that tells who writes."""
    return f".{name}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.part"


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", socket.gethostname()) or "_"


def clear_parts(folder: Path, alone: bool = False) -> None:
    """Delete the parts that killed processes left in a folder.

    Args:
        folder: Where; subfolders are not looked at.
        alone: Whether nobody else can be writing there, as in a locked folder: every part goes.
    """
    with contextlib.suppress(OSError):
        for part in folder.glob(".*.part"):
            if alone or _is_left(part):
                with contextlib.suppress(OSError):
                    shutil.rmtree(part) if part.is_dir() else part.unlink()


def _is_left(part: Path) -> bool:
    """Whether a part's writer is gone: it ran here and does not any more, or the part is old."""
    found = _PART.fullmatch(part.name)
    # Signal 0 asks whether a process lives on POSIX systems only; on Windows it is Ctrl-C.
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
    """Hold a lock file; the system frees it when the process ends, however it ends.

    Args:
        path: The lock file, which nobody else writes, reads or renames.
        wait: Wait for another holder instead of refusing.

    Raises:
        BadOutput: another process holds it, or the file cannot be made.
    """
    import filelock  # here: 40 ms that commands which lock nothing do without

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
    """JSON of a value with its SHA-256 beside it; `load_checked` is the way back.

    Not the canonical form: a text comes back as it was, composed or not.
    """
    text = json.dumps(body, sort_keys=True, allow_nan=False)
    return f'{{"body": {text}, "sha256": "{sha256(text.encode())}"}}\n'.encode()


def load_checked(data: bytes) -> Any:
    """The value that `dump_checked` wrote.

    Raises:
        ValueError: any byte of it changed.
    """
    try:
        body = json.loads(data)["body"]
        same = dump_checked(body) == data
    except (ValueError, TypeError, KeyError, RecursionError):
        same, body = False, None
    if not same:
        raise ValueError("its checksum does not hold")
    return body


def canonical_json(value: Any) -> bytes:
    """The one byte form of a JSON value: sorted keys, no spaces, UTF-8, NFC; NaN is refused."""
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


def sha256(data: bytes) -> str:
    """Hex digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """Hex digest of a file, which may exceed memory.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
