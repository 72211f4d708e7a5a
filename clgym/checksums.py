"""A checksum inside safetensors files, which detects any changed, missing or added byte.

A file is 8 bytes (the header's length), the header (JSON) and the tensors' bytes. The checksum is
the SHA-256 of header and tensors; it is stored in the header's metadata, which readers of
safetensors ignore, so that every tool can open the files.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

__all__ = ["Damaged", "check_safetensors", "is_undamaged", "with_checksum"]

_Header = dict[str, Any]  # JSON of any safetensors file; values are checked before use
_log = logging.getLogger(__name__)
_METADATA, _KEY = "__metadata__", "sha256"


class Damaged(ValueError):
    """A file whose bytes are not those that were written."""


def with_checksum(data: bytes) -> bytes:
    """The same safetensors file with a checksum in its metadata."""
    header, payload = _parts(data)
    if not header.get(_METADATA, True):
        del header[_METADATA]
    metadata = {**header.get(_METADATA, {}), _KEY: _digest(header, payload)}
    return b"".join([_prefix({**header, _METADATA: metadata}), payload])


def check_safetensors(data: bytes, required: bool = False) -> dict[str, str]:
    """Check a safetensors file against its checksum, and return its metadata.

    Args:
        data: The whole file.
        required: Whether to refuse a file without a checksum, too. Files of clgym 0.1 have none.

    Raises:
        Damaged: A byte was changed, removed or added.
    """
    header, payload = _parts(data)
    metadata = dict(header.get(_METADATA) or {})
    expected = metadata.pop(_KEY, None)
    if expected is None:
        if required:
            raise Damaged("it has no checksum")
        return metadata
    bare = {name: entry for name, entry in header.items() if name != _METADATA}
    if metadata:
        bare = {_METADATA: metadata, **bare}
    prefix = _prefix({**bare, _METADATA: {**metadata, _KEY: expected}})
    if _digest(bare, payload) != expected or data[: len(data) - len(payload)] != prefix:
        raise Damaged("its content does not match its checksum")
    return metadata


def is_undamaged(path: Path, required: bool = False) -> bool:
    """Whether a file exists and matches its checksum; a warning is logged if it does not match.

    Args:
        path: A file that can be made again.
        required: See `check_safetensors`.
    """
    try:
        check_safetensors(path.read_bytes(), required)
    except OSError:
        return False
    except Damaged as error:
        _log.warning("%s is damaged and made again: %s", path, error)
        return False
    return True


def _parts(data: bytes) -> tuple[_Header, memoryview]:
    """Header and tensors of a file; the tensors, which may be large, are not copied."""
    end = 8 + int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8:end])
    except (ValueError, RecursionError) as error:
        raise Damaged(f"its header cannot be read ({type(error).__name__})") from None
    if end > len(data) or not isinstance(header, dict):
        raise Damaged("its header is cut off")
    if not isinstance(header.get(_METADATA, {}), dict):
        raise Damaged("its metadata cannot be read")
    return header, memoryview(data)[end:]


def _digest(header: _Header, payload: memoryview) -> str:
    state = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    state.update(payload)
    return state.hexdigest()


def _prefix(header: _Header) -> bytes:
    """Bytes before the tensors: the header, padded with spaces to a multiple of 8."""
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
