"""Names of pretrained networks, and where and how their weights are read.

`clgym.models.backbones` says what names look like.
"""

import ast
import contextlib
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clgym.data.store import cache_dir
from clgym.errors import BadConfig, BadSource, MissingData, UnknownName, near
from clgym.files import load_checked
from clgym.models.loaders import loader_of

__all__ = ["Name", "check_known", "digest", "fetch", "native", "notes", "parse", "weights_file"]

_HUB_FILE = "model.safetensors"


def notes() -> Path:
    """Where it is written down which file has which weights."""
    return cache_dir() / "backbones"


@dataclass(frozen=True)
class Name:
    """A name taken apart."""

    architecture: str
    """timm's name, with the tag where the weights are timm's."""
    arguments: dict[str, Any]
    weights: str | None
    """What follows the @; None means timm's own."""

    @property
    def bare(self) -> str:
        """Without the weights."""
        pairs = ",".join(f"{k}={v}" for k, v in sorted(self.arguments.items()))
        return self.architecture + (f"[{pairs}]" if pairs else "")


def parse(name: str) -> Name:
    """Take a name apart.

    Raises:
        BadConfig: it has another form.
    """
    found = re.fullmatch(r"([\w.]+)(?:\[([^\]]*)\])?(?:@(.+))?", name)
    if found is None or (loader_of(found[1]) is not None and (found[2] or not found[3])):
        raise BadConfig(
            expected="a backbone such as TAG, NAME@FILE, NAME[argument=value]@FILE or run@FOLDER",
            found=repr(name),
            fix="Give --backbone another value",
        )
    pairs = [pair.partition("=") for pair in (found[2] or "").split(",") if pair]
    return Name(found[1], {k.strip(): _value(v) for k, _, v in pairs}, found[3])


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text.strip()


def check_known(name: Name) -> None:
    """Refuse what timm does not have, and a bare name where only a tag says which weights.

    Raises:
        UnknownName: no such network, or no such weights of it.
    """
    import timm

    architecture = name.architecture.partition(".")[0]
    if not timm.is_model(architecture):
        raise UnknownName(
            expected="a network of timm",
            found=repr(architecture),
            fix=f"{near(architecture, timm.list_models())}Give --backbone another name",
        )
    tags = timm.list_pretrained(f"{architecture}.*")
    if name.weights is None and name.architecture not in tags:
        raise UnknownName(
            expected=f"a tag of {architecture}'s weights ({', '.join(tags) or 'it has none'})",
            found=repr(name.architecture),
            fix="A bare name means other weights in other versions of timm: give --backbone a tag, "
            "NAME@FILE or NAME@random",
        )


def digest(model: nn.Module) -> str:
    """SHA-256 of a network's state: names in order, each with dtype, shape and bytes."""
    state = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        state.update(tensor.numpy().tobytes())
    return state.hexdigest()


def fetch(tag: str, progress: Callable[[str], None] = lambda line: None) -> Path:
    """Bring the weights of a timm tag into the hub's cache; the only way over the network.

    Raises:
        UnknownName: timm has no such weights.
        MissingData: they could not be got.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    check_known(Name(tag, {}, None))
    progress(f"getting {tag}")
    try:
        return Path(hf_hub_download(_hub_name(tag), _HUB_FILE))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise MissingData(
            expected=f"a download of {tag}",
            found=str(error).splitlines()[0],
            fix="Look at the connection, or get the file by hand and give NAME@FILE",
        ) from error


def _hub_name(tag: str) -> str:
    import timm

    facts: Any = timm.models.get_pretrained_cfg(tag)
    return facts.hf_hub_id


def weights_file(name: Name) -> Path:
    """Where the weights lie.

    Raises:
        MissingData: nowhere.
    """
    weights, loader = name.weights, loader_of(name.architecture)
    if weights is None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(_hub_name(name.architecture), _HUB_FILE)
        if not isinstance(found, str):
            raise MissingData(
                expected=f"the weights {name.architecture} on this machine",
                found="none in the hub's cache",
                fix=f"`clgym fetch {name.architecture}`, or give NAME@FILE",
            )
        return Path(found)
    if weights.startswith("sha256:"):
        note = notes() / "files" / f"{weights.removeprefix('sha256:')}.json"
        path = None
        with contextlib.suppress(OSError, ValueError):
            path = Path(load_checked(note.read_bytes())["file"])
    elif loader is not None:
        return loader.weights_file(Path(weights).expanduser())
    else:
        path = Path(weights).expanduser()
    if path is None or not path.is_file():
        what = "NAME@FILE" if loader is None else f"{name.architecture}@FOLDER"
        raise MissingData(
            expected=f"the weights of {name.bare}",
            found=f"no file for {weights}",
            fix=f"Give --backbone {what}",
        )
    return path


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors of a weight file; nothing but tensors is ever unpickled.

    Raises:
        BadSource: the file holds something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, ValueError, EOFError, OSError, KeyError) as error:
        raise _bad_weights(path, str(error).splitlines()[0]) from error
    except Exception as error:  # pickle's UnpicklingError has no common base with the others
        raise _bad_weights(path, type(error).__name__) from error
    state = state.get("state_dict", state.get("model", state)) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise _bad_weights(path, "something else")
    return {k.removeprefix("module."): v for k, v in state.items()}


def _bad_weights(path: Path, found: str) -> BadSource:
    return BadSource(
        expected=f"weights as tensors in {path.name}",
        found=found,
        fix="Give a safetensors file, or one that torch.load(weights_only=True) reads",
    )


def native(name: Name) -> nn.Module:
    """The network at its native input size, its weights in, its head off."""
    import timm

    loader = loader_of(name.architecture)
    if loader is not None:
        return loader.network(weights_file(name))
    check_known(name)
    arguments = {**name.arguments, "num_classes": 0}
    if name.weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return _create(timm.create_model, name.architecture, **arguments)
    if name.weights is None:  # timm's own file, which timm knows how to read
        overlay = {"file": str(weights_file(name))}
        return timm.create_model(
            name.architecture, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0
        )
    model = _create(timm.create_model, name.architecture, **arguments)
    _fill(model, weights_file(name), name)
    return model


def _fill(model: Any, path: Path, name: Name) -> None:
    """Load weights strictly, but for the head's.

    Raises:
        BadSource: some are missing, left over or of another shape.
    """
    state, own = _read(path), model.state_dict()
    heads = model.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{h}." for h in ([heads] if isinstance(heads, str) else heads))
    fitting = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    bad = [k for k in own if k not in fitting]
    bad += [k for k in state if k not in own and not k.startswith(heads)]
    if bad:
        raise BadSource(
            expected=f"the weights of {name.bare} in {path.name}",
            found=f"{len(bad)} missing, left over or of another shape, such as {bad[0]}",
            fix="Name the network that the file belongs to",
        )
    model.load_state_dict(fitting)


def _create(make: Callable[..., nn.Module], *args: Any, **arguments: Any) -> nn.Module:
    try:
        return make(*args, **arguments)
    except TypeError as error:
        raise BadConfig(
            expected="arguments of timm's constructor in the brackets of --backbone",
            found=str(error),
            fix="Drop what it does not take",
        ) from error
