"""Where a run happens, as the record keeps it: versions and kinds, no host name, user or path."""

import importlib.metadata
import platform
from typing import Any

from clgym._version import __version__

__all__ = ["describe"]

_PACKAGES = ("torch", "torchvision", "timm", "avalanche-lib", "numpy", "scikit-learn")


def describe(device: str, device_name: str, threads: int, engine: str) -> dict[str, Any]:
    """The environment block of a record."""
    versions = {name: _version(name) for name in _PACKAGES}
    return {
        "clgym": __version__,
        "python": platform.python_version(),
        "packages": {name: v for name, v in versions.items() if v},
        "platform": platform.system(),
        "machine": platform.machine(),
        "device": device,
        "device_name": device_name,
        "threads": threads,
        "engine": engine,
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
