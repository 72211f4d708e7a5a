"""The classifiers that test-time methods start from, by name.

``auto``: a small ResNet that clgym trains on the source's training rows, once, and keeps in the
cache. ``cifar10-resnet20``, ``cifar10-resnet32``: published weights in the data root's ``weights/``
folder; ``robustbench:Standard``: see `clgym.models.robustbench`. ``NETWORK@FILE``: a network of
torchvision (``torchvision:resnet50@FILE``), of timm, or of clgym with local weights. A folder: the
network of a finished run.
"""

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from clgym._moved import report_renamed
from clgym.data.experience import Report
from clgym.data.source_data import SourceData
from clgym.errors import BadSource, Incompatible, MissingData, UnknownName
from clgym.messages import TRAINED
from clgym.models import networks, timm_networks, torchvision_networks
from clgym.models.cifar_resnet import CifarResNet
from clgym.models.loaders import NetworkLoader, loader_of_folder
from clgym.models.names import Name, parse
from clgym.models.robustbench import NAMES, find_weights, wide_resnet
from clgym.models.trained_classifier import trained
from clgym.models.wanted import ClassifierSpec, joined
from clgym.models.weight_files import (
    WeightFile,
    digest_of,
    find_file,
    load,
    read,
    unfit,
    weight_folder,
)
from clgym.strategy import Classifier

__all__ = ["ClassifierSpec", "identity", "resolve"]

report_renamed(__name__)

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CIFAR_RESNETS = {
    "cifar10-resnet20": "de6272aa23b73b6a398e854340a878d9f3af343dae25f62e30afe5eeb71325ba",
    "cifar10-resnet32": "dd72147fc0c6f2a7551d95ada070e7c73b582bcb0b9c7acdf74e488450e406ea",
}
"""Published weights (akamaster/pytorch_resnet_cifar10) by `digest_of` their tensors; trained on
CIFAR-10, normalised by the statistics of ImageNet."""
_SUFFIXES = (".safetensors", ".th", ".pth", ".pt")


def resolve(
    name: str,
    wanted: ClassifierSpec,
    source: SourceData | None,
    device: torch.device,
    report: Report = lambda event: None,
) -> tuple[Classifier, str]:
    """Return the classifier in evaluation mode on ``device``, and its name without any path.

    Raises:
        MissingData: The weights are missing, or ``auto`` has no source data.
        UnknownName: There is no such network.
        Incompatible: The network does not take these images, or predicts other classes.
        BadSource: The weight file does not fit the network.
    """
    shown = name
    if name == TRAINED:
        classifier = trained(wanted, source, device, report)
    elif "@" in name:
        network, _, file = name.partition("@")
        classifier, shown = _with_weights(network, _weights(file, wanted.data_root), wanted)
    elif name.startswith("robustbench:"):
        classifier = _robustbench(name, wanted)
    elif (loader := loader_of_folder(Path(name))) is not None:
        classifier = _of_folder(loader, Path(name), wanted)
        shown = f"run:{Path(name).resolve().name}"
    else:
        classifier = _cifar_resnet(name, _published(name, wanted), wanted)
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


def _unknown(name: str) -> UnknownName:
    return UnknownName(
        expected="a classifier: auto, NETWORK@FILE, robustbench:NAME, a finished run's folder, or "
        + " or ".join(_CIFAR_RESNETS),
        found=repr(name),
        fix="Give --model another value",
    )


def _published(name: str, wanted: ClassifierSpec) -> WeightFile:
    """Find the file with the published weights of a name, recognised by their hash.

    Raises:
        UnknownName: There are no published weights called ``name``.
        MissingData: No file in the data root's ``weights/`` contains them.
    """
    if name not in _CIFAR_RESNETS:
        raise _unknown(name)
    network = name.rpartition("-")[2]
    folder = weight_folder(wanted.data_root)
    paths = [p for p in sorted(folder.glob(f"*{network}*")) if p.suffix in _SUFFIXES]
    for path in paths:
        try:
            file = read(path)
        except BadSource:
            continue
        if digest_of(file.state) == _CIFAR_RESNETS[name]:
            return file
    others = ", ".join(p.name for p in paths)
    raise MissingData(
        expected=f"the published weights of {name} in the data root's weights/ folder",
        found=f"other weights in {others}" if paths else "no such file",
        fix=f"Put them there, or give --model {network}@FILE for other weights, or --model auto",
    )


def _weights(file: str, data_root: Path | None) -> WeightFile:
    path = find_file(file, data_root)
    if path is None:
        raise MissingData(
            expected=f"the weight file {file}",
            found="neither a path nor a file in the data root's weights/ folder",
            fix="Give --model NETWORK@FILE with an existing file",
        )
    return read(path)


# --- networks with weights -----------------------------------------------------------------------


def _with_weights(network: str, file: WeightFile, wanted: ClassifierSpec) -> tuple[Classifier, str]:
    """Return the classifier and its name: the network, added arguments, and the file's name."""
    kind, _, rest = network.rpartition(":")
    shown, state = f"{network}@{file.path.name}", file.state
    notes = [f"weights of {file.averaged}"] if file.averaged else []
    if network in _CIFAR_RESNETS or (
        re.fullmatch(r"resnet\d+", network) and "linear.weight" in state
    ):
        made = _cifar_resnet(network, file, wanted)
    elif kind == "torchvision":
        parts = torchvision_networks.with_head(parse(rest), file)
        made = joined(*parts[:3], *parts[3], wanted, f"torchvision:{rest}")
    elif network == "resnet50-bottleneck" and "mean" not in state:
        made = _bottleneck(network, file, wanted)
    elif network in networks.NETWORKS and "mean" in state:  # clgym's; timm has these names, too
        columns = len(wanted.classes)
        made = networks.build(network, wanted.image_shape, columns, wanted.mean, wanted.std)
        load(made, file)
    else:
        made, name, assumed = _timm(parse(network), file, wanted)
        shown = f"{name.bare}@{file.path.name}"
        notes += [f"images scaled as {name.architecture}'s"] if assumed else []
    return made, f"{shown} ({', '.join(notes)})" if notes else shown


def _cifar_resnet(name: str, file: WeightFile, wanted: ClassifierSpec) -> Classifier:
    state = dict(file.state)
    published = digest_of(state) in _CIFAR_RESNETS.values()
    depth = int(name.rpartition("resnet")[2])
    if not {"linear.weight", "linear.bias"} <= state.keys():
        raise unfit(file.path, f"no linear.weight and linear.bias, the head of {name}")
    weight, bias = state.pop("linear.weight"), state.pop("linear.bias")
    backbone = CifarResNet((depth - 2) // 6, wanted.image_shape[0])
    load(backbone, file, state)
    scale = _IMAGENET if published or name in _CIFAR_RESNETS else (wanted.mean, wanted.std)
    return joined(backbone, weight, bias, *scale, wanted, name)


def _bottleneck(name: str, file: WeightFile, wanted: ClassifierSpec) -> Classifier:
    """DomainNet-126's network from a published file; its head stays weight-normalised.

    Length and direction of the head's rows are then not called weight, so that methods which adapt
    all weights and biases do not change them, as in the papers.
    """
    parts = [file.state.get(f"fc.{key}") for key in ("weight_g", "weight_v", "bias")]
    length, direction, bias = parts
    if length is None or direction is None or bias is None:
        raise unfit(file.path, "no fc.weight_g, fc.weight_v and fc.bias, a weight-normalised head")
    prefix = "encoder."
    body = {k.removeprefix(prefix): v for k, v in file.state.items() if k.startswith(prefix)}
    backbone, _ = networks.NETWORKS[name](wanted.image_shape)
    load(backbone, file, body)
    weight = length * direction / direction.norm(dim=1, keepdim=True)
    classifier = joined(backbone, weight, bias, *_IMAGENET, wanted, name)
    nn.utils.parametrizations.weight_norm(classifier.head, dim=0)
    return classifier


def _robustbench(name: str, wanted: ClassifierSpec) -> Classifier:
    """A wide residual network for the dataset that the stream's classes name (``cifar10/cat``)."""
    short = name.partition(":")[2]
    dataset = wanted.classes[0].partition("/")[0]
    path = find_weights(short, dataset, weight_folder(wanted.data_root).parent)
    backbone, weight, bias = wide_resnet(read(path).state, name)
    level = NAMES[short]
    scale = ((), ()) if level is None else ((level,) * 3, (level,) * 3)
    return joined(backbone, weight, bias, *scale, wanted, name)


def _timm(name: Name, file: WeightFile, wanted: ClassifierSpec) -> tuple[Classifier, Name, bool]:
    """Return the classifier, its full name, and whether its normalisation is the architecture's."""
    import timm

    if not timm.is_model(name.architecture):
        raise _unknown(name.bare)
    network, full, assumed = timm_networks.with_head(name, file)
    before, facts = timm_networks.BeforeHead(network.eval()), network.pretrained_cfg
    weight, bias = before.linear()
    _check_head(before, weight, bias, wanted, full.bare)
    scale = tuple(facts["mean"]), tuple(facts["std"])
    return joined(before, weight, bias, *scale, wanted, full.bare), full, assumed


def _check_head(
    before: timm_networks.BeforeHead,
    weight: Tensor,
    bias: Tensor,
    wanted: ClassifierSpec,
    name: str,
) -> None:
    """Refuse a network whose logits are more than a linear function of its features.

    Raises:
        Incompatible: The network is such a one, or does not take the stream's images.
    """
    images = torch.rand(2, *wanted.image_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), _taking(name, wanted):
        features, logits = before(images), before.network(images)
    linear = features.shape[1] == weight.shape[1] and torch.allclose(
        features @ weight.T + bias, logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max())
    )
    if not linear:
        raise Incompatible(
            expected="a network whose logits are a linear function of one feature vector",
            found=f"{name}, which does more after its head",
            fix="Give --model another network",
        )


def _of_folder(loader: NetworkLoader, folder: Path, wanted: ClassifierSpec) -> Classifier:
    """The network of a finished learning run, with its outputs in the stream's order."""
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
    weight, bias = network.head.weight, network.head.bias
    with torch.no_grad():
        classifier.head.weight.copy_(weight[order])
        classifier.head.bias.copy_(weight.new_zeros(len(order)) if bias is None else bias[order])
    return classifier


def _try(classifier: Classifier, name: str, wanted: ClassifierSpec, device: torch.device) -> None:
    """Refuse a network that does not take the stream's images."""
    with torch.no_grad(), _taking(name, wanted):
        width = classifier(torch.zeros(2, *wanted.image_shape, device=device)).shape[1]
    if width != len(wanted.classes):
        raise Incompatible(
            expected=f"a classifier of the stream's {len(wanted.classes)} classes",
            found=f"{name} with {width} outputs",
            fix="Give --model a network for these classes, or --model auto",
        )


@contextlib.contextmanager
def _taking(name: str, wanted: ClassifierSpec) -> Iterator[None]:
    """Turn a network's error about its images into a named error."""
    try:
        yield
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        raise Incompatible(
            expected=f"images that {name} takes",
            found=f"{tuple(wanted.image_shape)} ({' '.join(str(error).split())[:120]})",
            fix="Give --resize the side it was made for, or another --model",
        ) from error
