"""Locations of backbone weights, and the networks that they belong to.

`clgym.models.backbones` describes the form of names.
"""

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clgym.data.store import cache_dir
from clgym.errors import BadSource, MissingData
from clgym.files import file_sha256, load_checked
from clgym.models import timm_networks, weight_files
from clgym.models.loaders import loader_of
from clgym.models.names import AVERAGED, Name
from clgym.models.places import note_place

__all__ = ["digest", "fetch", "native", "notes", "weights_file"]

_HUB_FILE = "model.safetensors"


def notes() -> Path:
    """Folder of the notes that say which file contains which weights."""
    return cache_dir() / "backbones"


def digest(model: nn.Module) -> str:
    """Hexadecimal SHA-256 of a network's state: sorted names, each with dtype, shape and bytes."""
    return weight_files.digest_of(model.state_dict())


def fetch(tag: str, progress: Callable[[str], None] = lambda line: None) -> Path:
    """Download the weights of a timm tag into the hub's cache; nothing else downloads weights.

    Raises:
        UnknownName: timm has no such weights.
        MissingData: The download failed.
        BadSource: The downloaded or existing file differs from that of the hub.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    timm_networks.check_known(Name(tag, {}, None))
    progress(f"getting {tag}")
    try:
        # bandit demands a revision, which a tag does not state; records name weights by their hash.
        file = Path(hf_hub_download(_hub_name(tag), _HUB_FILE))  # nosec B615
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise MissingData(
            expected=f"a download of {tag}",
            found=str(error).splitlines()[0],
            fix="Check the connection, or download the file by hand and give NAME@FILE",
        ) from error
    # The hub names a large file by its SHA-256, and its cache keeps the file under that name.
    blob = file.resolve()
    if re.fullmatch("[0-9a-f]{64}", blob.name) and file_sha256(blob) != blob.name:
        raise BadSource(
            expected=f"the weights {tag} with SHA-256 {blob.name}",
            found="a file with another hash, perhaps an incomplete one",
            fix=f"Remove {blob} and fetch again",
        )
    return file


def _hub_name(tag: str) -> str:
    import timm

    facts: Any = timm.models.get_pretrained_cfg(tag)
    return facts.hf_hub_id


def weights_file(name: Name, data_root: Path | None = None) -> Path:
    """Find the weights by path, or by file name in the data root's ``weights/`` folder.

    Raises:
        MissingData: There is no such file.
    """
    weights, loader = name.weights, loader_of(name.architecture)
    if weights is None:
        return _in_hub(name)
    if loader is not None and not weights.startswith("sha256:"):
        folder = Path(weights).expanduser()
        note_place(folder)
        return loader.weights_file(folder)
    path = _noted(weights) if weights.startswith("sha256:") else None
    path = path or weight_files.find_file(weights, data_root)
    if path is None or not path.is_file():
        what = "NAME@FILE" if loader is None else f"{name.architecture}@FOLDER"
        raise MissingData(
            expected=f"the weights of {name.bare}",
            found=f"no file for {weights}, neither a path nor in the data root's weights/ folder",
            fix=f"Give --backbone {what}",
        )
    return path


def _in_hub(name: Name) -> Path:
    """The file of a timm tag in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    hub_name = _hub_name(name.architecture)
    kept = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=hub_name, repo_type="model")
    note_place(kept, kept / "refs" / "main", kept / "snapshots", *kept.glob("snapshots/*"))
    found = try_to_load_from_cache(hub_name, _HUB_FILE)
    if not isinstance(found, str):
        raise MissingData(
            expected=f"the weights {name.architecture} on this machine",
            found="none in the hub's cache",
            fix=f"Run `clgym fetch {name.architecture}`, or give NAME@FILE",
        )
    return Path(found)


def _noted(weights: str) -> Path | None:
    """The file that an earlier run read these weights from."""
    note = notes() / "files" / f"{weights.removeprefix('sha256:')}.json"
    note_place(note)
    with contextlib.suppress(OSError, ValueError):
        return Path(load_checked(note.read_bytes())["file"])
    return None


def native(name: Name, data_root: Path | None = None) -> tuple[Any, Name]:
    """Return the network at its native input size, with weights, without head; and its full name.

    Raises:
        ClgymError: The network or the weights do not exist, or do not belong together.
    """
    loader = loader_of(name.architecture)
    if loader is not None:
        return loader.network(weights_file(name, data_root)), name
    timm_networks.check_known(name)
    if name.weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return timm_networks.create(name, num_classes=0), name
    path = weights_file(name, data_root)
    if name.weights is None:  # timm's own file, which only timm can read
        overlay = {"file": str(path)}
        made = timm_networks.create(
            name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0
        )
        return made, name
    file = weight_files.read(path)
    made, full = timm_networks.headless(name, file)
    return made, full.with_arguments({AVERAGED: file.averaged} if file.averaged else {})
