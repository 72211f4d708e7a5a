"""Checks that the data of a stream exist on this machine, without reading them."""

import re
from collections.abc import Mapping
from pathlib import Path

from clgym.data.locate import locate
from clgym.data.root import data_root
from clgym.errors import ClgymError

__all__ = ["preset_data_here", "source_here"]


def source_here(name: str, root: Path | None = None) -> bool:
    """Whether the files of a source exist.

    Args:
        name: Name of a source, ``folder:PATH``, ``npz:PATH`` or ``root:NAME``; ``NAME[0..4]`` for
            some of its classes.
        root: Data root; None means the default.
    """
    name = re.sub(r"\[[^\]]*\]$", "", name.strip())
    kind, _, place = name.partition(":")
    if kind in ("root", "list"):
        path = data_root(root) / place
        return path.exists() or path.with_name(f"{path.name}.npz").exists()
    try:
        locate(name, root, None)
    except ClgymError:
        return False
    return True


def preset_data_here(options: Mapping[str, object], root: Path | None = None) -> bool:
    """Whether all data that a scenario's preset names exist; weights are not looked for.

    Args:
        options: Options of the preset; ``source`` may name several sources, ``published`` the
            folder of published images.
        root: Data root; None means the default.
    """
    names = re.split(r",(?![^\[]*\])", str(options.get("source", "")))
    published = options.get("published")
    if published and not (data_root(root) / str(published)).is_dir():
        return False
    return all(source_here(name, root) for name in names if name not in ("none", ""))
