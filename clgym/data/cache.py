"""Folder of the caches of images, features and networks, and the error if it cannot be written."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from clgym.errors import BadOutput

__all__ = ["cache_dir", "filling_cache"]


def cache_dir() -> Path:
    """Folder of the cache: ``CLGYM_CACHE``, else ``~/.cache/clgym``."""
    given = os.environ.get("CLGYM_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "clgym"


@contextlib.contextmanager
def filling_cache(path: Path, *others: type[Exception]) -> Iterator[None]:
    """Turn the operating system's refusals to write at ``path`` into one named error.

    Args:
        path: The file or folder.
        others: Exceptions that count as refusals, besides those of the operating system.

    Raises:
        BadOutput: no space, no permission, or one of the others.
    """
    try:
        yield
    except (OSError, *others) as error:
        raise BadOutput(
            expected="a cache folder that can be written and has space",
            found=f"{getattr(error, 'strerror', None) or error} at {path}",
            fix="Free some space (`clgym cache clean`), or set CLGYM_CACHE to another folder",
        ) from error
