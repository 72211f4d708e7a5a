"""Environment block of a record: versions and device models, no host name, user or path."""

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Literal

from clgym._version import __version__
from clgym.results.record import Environment

__all__ = ["describe", "package_versions"]

_PACKAGES = ("torch", "torchvision", "timm", "avalanche-lib", "numpy", "scikit-learn")


def describe(
    device: str,
    device_name: str,
    threads: int,
    engine: Literal["process", "inline"],
    *,
    sandbox: str,
    order_key: str,
    read_files: Mapping[str, str],
) -> Environment:
    """The environment block of a record; see `clgym.results.record.Environment`."""
    return Environment(
        clgym=__version__,
        python=platform.python_version(),
        packages=package_versions(),
        platform=platform.system(),
        machine=platform.machine(),
        device=device,
        device_name=device_name,
        threads=threads,
        engine=engine,
        sandbox=sandbox,
        order_key=order_key,
        read_files=dict(read_files),
    )


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that results depend on."""
    versions = {name: _version(name) for name in _PACKAGES}
    return {name: version for name, version in versions.items() if version}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
