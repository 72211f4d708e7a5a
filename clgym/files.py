"""Files that are written whole or not at all, and the canonical form that hashes are taken of."""

import contextlib
import errno
import hashlib
import json
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clgym.errors import BadOutput

__all__ = ["canonical_json", "sha256", "write_atomic", "writing"]


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
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


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
