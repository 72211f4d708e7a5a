"""Files that a learner may open: its code and weights, and the current images.

Labels, the data root, other runs, this run's record and this installation's secret are never
included.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from clgym import registry
from clgym.data.root import data_root as root_of
from clgym.data.store import cache_dir
from clgym.engines import Confinement
from clgym.files import load_checked
from clgym.gym.request import Request
from clgym.gym.withheld_order import state_folder
from clgym.results.layout import PREDICTIONS, RECORD, STATE

__all__ = ["confinement"]

_BESIDE = ("config.json", RECORD)
"""Names of files that may describe a weight file."""
WEIGHTS = (".safetensors", ".th", ".pth", ".pt", ".bin", ".ckpt")
"""Endings of the files with weights that an option may name in the data root."""
_TRAINED = (RECORD, STATE)
"""Files of a finished run from which its network is read; its predictions contain labels."""


def confinement(
    request: Request,
    config: Mapping[str, Any],
    read: Iterable[Path] = (),
    write: Iterable[Path] = (),
) -> Confinement | None:
    """Files and folders that the learner of a request may open; None without a sandbox.

    Args:
        request: The request.
        config: The strategy's options, some of which name weights.
        read: Files to read besides code and weights.
        write: Folders to write to; made if they are missing.
    """
    if request.sandbox == "none":
        return None
    for folder in write:
        with contextlib.suppress(OSError):  # a later write reports the error
            folder.mkdir(parents=True, exist_ok=True)
    known = registry.entries("strategies", request.plugins).values()
    closed = [cache_dir(), state_folder(), Path("runs")]
    closed += [root_of(request.data_root), *([request.out] if request.out else [])]
    return Confinement(
        sandbox=request.sandbox,
        code=tuple(dict.fromkeys(e.path.resolve() for e in known if e.origin != "built-in")),
        read=tuple(path.resolve() for path in (*read, *_weights(request, config))),
        write=tuple(path.resolve() for path in write),
        closed=tuple(path.resolve() for path in closed),
    )


def _weights(request: Request, config: Mapping[str, Any]) -> Iterator[Path]:
    """Pretrained weights: in the caches of their hubs, in the data root, at paths in options."""
    hub = _folder("HF_HOME", ".cache/huggingface") / "hub"
    yield from Path(os.environ.get("HF_HUB_CACHE", hub)).glob("models--*")
    yield _folder("TORCH_HOME", ".cache/torch") / "hub" / "checkpoints"
    root = root_of(request.data_root)
    yield root / "weights"
    yield root / "models"
    for value in config.values():
        if isinstance(value, str):
            name = value.rpartition("@")[2]
            named = _noted(name.removeprefix("sha256:")) or Path(name).expanduser()
            if _holds_answers(named, root):
                continue
            if named.is_file():
                yield named
                yield from (named.with_name(name) for name in _BESIDE)
            elif all((named / name).is_file() for name in _TRAINED):
                yield from (named / name for name in _TRAINED)


def _holds_answers(named: Path, root: Path) -> bool:
    """Whether a file that an option names may hold images or labels of a source, or predictions.

    The author of a plugin may name it, by the option's default.
    """
    place = named.resolve()
    closed = [cache_dir() / name for name in ("sources", "corrupted", "features")]
    if any(place.is_relative_to(folder.resolve()) for folder in (*closed, state_folder())):
        return True
    in_root = place.is_relative_to(root.resolve()) and place.suffix not in WEIGHTS
    return place.name == PREDICTIONS or (in_root and named.is_file())


def _noted(digest: str) -> Path | None:
    """File of the weights that an option names by their hash."""
    note = cache_dir() / "backbones" / "files" / f"{digest}.json"
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        return Path(load_checked(note.read_bytes())["file"])
    return None


def _folder(variable: str, default: str) -> Path:
    given = os.environ.get(variable)
    return Path(given).expanduser() if given else Path.home() / default
