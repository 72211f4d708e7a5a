"""The classifier that a test-time method starts from, by name.

``auto``: a small ResNet that clgym trains on the source's training rows, once, and keeps in the
cache. ``cifar10-resnet20``, ``cifar10-resnet32``: published weights in the data root's ``weights/``
folder; ``robustbench:Standard``: see `clgym.models.robustbench`. ``NETWORK@FILE``: a network of
torchvision (``torchvision:resnet50@FILE``), of timm, or of clgym with local weights. A folder: the
network of a finished run.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from clgym.checksums import is_undamaged, with_checksum
from clgym.data.source_data import SourceData
from clgym.data.store import cache_dir
from clgym.errors import BadSource, Incompatible, MissingData, UnknownName
from clgym.files import canonical_json, sha256, write_atomic, writing
from clgym.models import networks
from clgym.models.cifar_resnet import CifarResNet
from clgym.models.loaders import NetworkLoader, loader_of_folder
from clgym.models.robustbench import NAMES, find_weights, wide_resnet
from clgym.strategy import Classifier

__all__ = ["Wanted", "identity", "resolve"]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CIFAR_RESNETS = {"cifar10-resnet20": 3, "cifar10-resnet32": 5}
_AUTO = {"recipe": 1, "blocks": 1, "epochs": 8, "batch": 64, "lr": 0.01, "seed": 0}


@dataclass(frozen=True)
class Wanted:
    """What the classifier must fit."""

    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    """Names by column."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    """Of the source."""
    data_root: Path | None


def resolve(
    name: str,
    wanted: Wanted,
    source: SourceData | None,
    device: torch.device,
    report: Callable[[dict[str, Any]], None] = lambda event: None,
) -> tuple[Classifier, str]:
    """The classifier in evaluation mode on ``device``, and its name without any path.

    Raises:
        MissingData: no weights, or ``auto`` without source data.
        UnknownName: no such network.
        Incompatible: it does not take these images or answers with other classes.
        BadSource: a weight file that does not fit the network.
    """
    shown = name
    if name == "auto":
        classifier = _auto(wanted, source, device, report)
    elif "@" in name:
        network, _, file = name.partition("@")
        path = _weights(file, wanted.data_root)
        classifier, shown = _with_weights(network, path, wanted), f"{network}@{path.name}"
    elif name.startswith("robustbench:"):
        classifier = _robustbench(name, wanted)
    elif (loader := loader_of_folder(Path(name))) is not None:
        classifier = _of_folder(loader, Path(name), wanted)
        shown = f"run:{Path(name).resolve().name}"
    else:
        found = sorted(_weight_folder(wanted.data_root).glob(f"{_file_stem(name)}*.safetensors"))
        if not found:
            raise _unknown(name, wanted)
        classifier = _with_weights(name, found[0], wanted)
    classifier = classifier.eval().to(device)
    _try(classifier, shown, wanted, device)
    return classifier, shown


def identity(classifier: Classifier) -> str:
    """Hex SHA-256 of all weights and statistics, by name."""
    state = hashlib.sha256()
    for key, value in sorted(classifier.state_dict().items()):
        state.update(key.encode() + str(tuple(value.shape)).encode())
        state.update(value.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()


def _unknown(name: str, wanted: Wanted) -> Exception:
    if name in _CIFAR_RESNETS:
        return MissingData(
            expected=f"weights/{_file_stem(name)}*.safetensors in the data root",
            found="no such file",
            fix="Put it there, or give --model auto: clgym then trains a small one",
        )
    return UnknownName(
        expected="a classifier: auto, NETWORK@FILE, robustbench:NAME, a finished run's folder, or "
        + " or ".join(_CIFAR_RESNETS),
        found=repr(name),
        fix="Give --model another value",
    )


def _file_stem(name: str) -> str:
    return name.replace("-", "_")


def _weight_folder(data_root: Path | None) -> Path:
    given = data_root or os.environ.get("CLGYM_DATA") or "."
    return Path(given).expanduser() / "weights"


def _weights(file: str, data_root: Path | None) -> Path:
    for path in (Path(file).expanduser(), _weight_folder(data_root) / file):
        if path.is_file():
            return path
    raise MissingData(
        expected=f"the weight file {file}",
        found="neither a path nor a file in the data root's weights/ folder",
        fix="Give --model NETWORK@FILE with a file that is there",
    )


# --- networks with weights -----------------------------------------------------------------------


def _with_weights(network: str, path: Path, wanted: Wanted) -> Classifier:
    state = _read(path)
    kind, _, rest = network.rpartition(":")
    if (
        network in _CIFAR_RESNETS
        or re.fullmatch(r"resnet\d+", network)
        and "linear.weight" in state
    ):
        return _cifar_resnet(network, state, wanted, path)
    if kind == "torchvision":
        return _torchvision(rest, state, wanted, path)
    if network in networks.NETWORKS and "mean" in state:  # ours; timm has nets of these names
        columns = len(wanted.classes)
        built = networks.build(network, wanted.image_shape, columns, wanted.mean, wanted.std)
        _load(built, state, path)
        return built
    return _timm(network, state, wanted, path)


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file or of a PyTorch one, which may hold nothing else; float32."""
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
            for key in ("state_dict", "model"):
                state = state.get(key, state)
        return {
            k.removeprefix("module."): v.float() if v.is_floating_point() else v
            for k, v in state.items()
        }
    except (SafetensorError, OSError, AttributeError, RuntimeError, ValueError, EOFError) as error:
        raise _unfit(path, str(error)) from error
    except Exception as error:  # torch.load raises pickle's errors, whose names are private
        raise _unfit(path, f"{type(error).__name__}: {error}") from error


def _unfit(path: Path, found: str) -> BadSource:
    return BadSource(
        expected=f"weights in {path.name} that fit the network",
        found=found.splitlines()[0][:200] if found else "nothing",
        fix="Give --model the file that belongs to that network",
    )


def _load(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise _unfit(path, " ".join(str(error).split())) from error


def _cifar_resnet(name: str, state: dict[str, Tensor], wanted: Wanted, path: Path) -> Classifier:
    depth = int(name.rpartition("resnet")[2])
    weight, bias = state.pop("linear.weight"), state.pop("linear.bias")
    backbone = CifarResNet((depth - 2) // 6, wanted.image_shape[0])
    _load(backbone, state, path)
    # The published CIFAR-10 weights were trained with the statistics of ImageNet.
    scale = _IMAGENET if name in _CIFAR_RESNETS else (wanted.mean, wanted.std)
    return _joined(backbone, weight, bias, *scale, wanted, name)


def _joined(
    backbone: nn.Module,
    weight: Tensor,
    bias: Tensor,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    wanted: Wanted,
    name: str,
) -> Classifier:
    """A classifier whose head has the stream's columns: those of its classes, in their order."""
    kept = _columns(len(bias), wanted, name)
    classifier = Classifier(backbone, weight.shape[1], len(kept), mean, std)
    with torch.no_grad():
        classifier.head.weight.copy_(weight[kept])
        classifier.head.bias.copy_(bias[kept])
    return classifier


def _columns(outputs: int, wanted: Wanted, name: str) -> list[int]:
    """Which outputs the stream's classes are.

    A network with 1000 outputs on classes named by WordNet ids is one of ImageNet-1k: the outputs
    of the other classes are cut off.
    """
    if outputs == len(wanted.classes):
        return list(range(outputs))
    ids = [c.removeprefix("imagenet/") for c in wanted.classes]
    if outputs == 1000 and all(re.fullmatch(r"n\d{8}", i) for i in ids):
        from timm.data.imagenet_info import ImageNetInfo

        known = {name: i for i, name in enumerate(ImageNetInfo().label_names())}
        if all(i in known for i in ids):
            return [known[i] for i in ids]
    raise Incompatible(
        expected=f"a classifier of the stream's {len(wanted.classes)} classes",
        found=f"{name} with {outputs} outputs",
        fix="Give --model a network for these classes, or --model auto",
    )


def _robustbench(name: str, wanted: Wanted) -> Classifier:
    """A wide residual network; the stream's classes say which data set's (``cifar10/cat``)."""
    short = name.partition(":")[2]
    dataset = wanted.classes[0].partition("/")[0]
    path = find_weights(short, dataset, _weight_folder(wanted.data_root).parent)
    backbone, weight, bias = wide_resnet(_read(path), name)
    level = NAMES[short]
    scale = ((), ()) if level is None else ((level,) * 3, (level,) * 3)
    return _joined(backbone, weight, bias, *scale, wanted, name)


class _Pooled(nn.Module):
    """A timm network up to the features that its classifier reads."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.forward_head(self.network.forward_features(images), pre_logits=True)


def _timm(name: str, state: dict[str, Tensor], wanted: Wanted, path: Path) -> Classifier:
    import timm

    if not timm.is_model(name):
        raise _unknown(name, wanted)
    outputs = max(
        (len(v) for k, v in state.items() if re.search(r"(head|fc|classifier)\b", k)), default=0
    )
    network: Any = timm.create_model(name, num_classes=outputs)
    _load(network, state, path)
    head = network.get_classifier()
    facts = network.pretrained_cfg
    if not isinstance(head, nn.Linear):
        raise _unfit(path, f"{name} does not end in a linear layer")
    mean, std = tuple(facts["mean"]), tuple(facts["std"])
    return _joined(_Pooled(network), head.weight, head.bias, mean, std, wanted, name)


def _torchvision(name: str, state: dict[str, Tensor], wanted: Wanted, path: Path) -> Classifier:
    from torchvision import models

    if name not in models.list_models(models):
        raise _unknown(f"torchvision:{name}", wanted)
    last = [k for k in state if k.endswith(".weight") and state[k].ndim == 2][-1]
    network = models.get_model(name, weights=None, num_classes=len(state[last]))
    _load(network, state, path)
    holder, _, place = last.removesuffix(".weight").rpartition(".")
    network.get_submodule(holder)._modules[place] = nn.Identity()
    weight, bias = state[last], state[last.removesuffix("weight") + "bias"]
    return _joined(network, weight, bias, *_IMAGENET, wanted, f"torchvision:{name}")


def _of_folder(loader: NetworkLoader, folder: Path, wanted: Wanted) -> Classifier:
    """The network of a finished learning run, its columns put in the stream's order."""
    network, classes = loader.classifier(folder)
    names = [c.rsplit("/", 1)[-1] for c in classes]
    missing = [c for c in wanted.classes if c.rsplit("/", 1)[-1] not in names]
    if missing:
        raise Incompatible(
            expected="a finished run of a strategy that trains one network on the stream's classes",
            found=f"one without {missing[0]}",
            fix="Give --model another folder",
        )
    order = [names.index(c.rsplit("/", 1)[-1]) for c in wanted.classes]
    mean, std = network.mean.flatten().tolist(), network.std.flatten().tolist()
    classifier = Classifier(network.backbone, network.head.in_features, len(order), mean, std)
    with torch.no_grad():
        classifier.head.weight.copy_(network.head.weight[order])
        classifier.head.bias.copy_(network.head.bias[order])
    return classifier


def _try(classifier: Classifier, name: str, wanted: Wanted, device: torch.device) -> None:
    """Refuse a network that does not take the stream's images."""
    try:
        with torch.no_grad():
            images = torch.zeros(2, *wanted.image_shape, device=device)
            width = classifier(images).shape[1]
    except (RuntimeError, AssertionError, ValueError) as error:
        raise Incompatible(
            expected=f"images that {name} takes",
            found=f"{tuple(wanted.image_shape)} ({str(error).splitlines()[0][:120]})",
            fix="Give --resize the side it was made for, or another --model",
        ) from error
    if width != len(wanted.classes):
        raise Incompatible(
            expected=f"a classifier of the stream's {len(wanted.classes)} classes",
            found=f"{name} with {width} outputs",
            fix="Give --model a network for these classes, or --model auto",
        )


# --- the small one that clgym trains -------------------------------------------------------------


def _auto(
    wanted: Wanted,
    source: SourceData | None,
    device: torch.device,
    report: Callable[[dict[str, Any]], None],
) -> Classifier:
    """ResNet-8 on the source's training rows, from the cache if it was trained before."""
    if source is None:
        raise MissingData(
            expected="the source's training rows, to train a classifier from",
            found="none on this stream",
            fix="Give --model NETWORK@FILE, or a --source whose data are here",
        )
    facts = [_AUTO, wanted.fingerprint, wanted.image_shape, len(source), len(wanted.classes)]
    path = cache_dir() / "classifiers" / f"{sha256(canonical_json(facts))}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_AUTO["seed"])
        backbone = CifarResNet(_AUTO["blocks"], wanted.image_shape[0])
        classifier = Classifier(
            backbone, CifarResNet.width, len(wanted.classes), wanted.mean, wanted.std
        ).to(device)
        if is_undamaged(path):
            _load(classifier, _read(path), path)
            return classifier
        _fit(classifier, source, report)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().contiguous() for k, v in classifier.state_dict().items()}
    data = safetensors.torch.save(state, {"recipe": json.dumps(_AUTO)})
    write_atomic(path, with_checksum(data))
    return classifier


def _fit(
    classifier: Classifier, source: SourceData, report: Callable[[dict[str, Any]], None]
) -> None:
    """Cross-entropy with AdamW under one cycle of learning rates; images shifted by up to 1/8."""
    size = _AUTO["batch"]
    steps = _AUTO["epochs"] * -(-len(source) // size)
    optimizer = torch.optim.AdamW(classifier.parameters(), _AUTO["lr"], weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _AUTO["lr"], steps)
    draws = torch.Generator().manual_seed(_AUTO["seed"])
    classifier.train()
    for step in range(steps):
        images, labels = source.batch(size, step)
        loss = F.cross_entropy(classifier(_shifted(images, draws)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        report({"experience": 0, "step": step + 1, "steps": steps, "loss": loss.item()})
    classifier.eval()


def _shifted(images: Tensor, draws: torch.Generator) -> Tensor:
    """All images moved by the same few pixels; classes such as digits must not be mirrored."""
    reach, side = max(1, images.shape[-1] // 8), images.shape[-1]
    top, left = torch.randint(2 * reach + 1, (2,), generator=draws).tolist()
    padded = F.pad(images, (reach,) * 4)
    return padded[:, :, top : top + images.shape[-2], left : left + side]
