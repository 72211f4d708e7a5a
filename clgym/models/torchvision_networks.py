"""torchvision's classification networks with weights from files.

A network's head is the last layer with as many outputs as requested classes. The normalisation of
images, and whether the network scales them internally, are those that torchvision declares for the
weights, recognised by the hash in their file's name, else for the architecture's weights.
"""

import functools
import hashlib
import re
from typing import Any

import torch
from torch import Tensor, nn

from clgym.errors import BadConfig, Incompatible, UnknownName, near
from clgym.models.names import SCALE, Name
from clgym.models.weight_files import WeightFile, load, unfit

__all__ = ["with_head"]

_SCALES_INSIDE = ("googlenet", "inception_v3")
"""Networks that scale their images internally if and only if their weights are TensorFlow's."""
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
_PROBE = 7
"""Number of classes of the networks that are built to find the layer they change."""

Scale = tuple[tuple[float, ...], tuple[float, ...]]


def with_head(name: Name, file: WeightFile) -> tuple[nn.Module, Tensor, Tensor, Scale]:
    """Return the network up to its head, the head's weight and bias, and its images' mean and std.

    Raises:
        UnknownName: torchvision has no such network.
        Incompatible: The network does not end in a linear layer.
        BadSource: Weights are missing, left over or of another shape.
        BadConfig: An argument is unknown, or one that determines the network is missing.
    """
    from torchvision import models

    known = models.list_models(models)
    if name.architecture not in known:
        raise UnknownName(
            expected="a classification network of torchvision",
            found=f"torchvision:{name.architecture}",
            fix=f"{near(name.architecture, known)}Give --model another value",
        )
    published = _published(name.architecture, file)
    arguments = _arguments(name, file, published)
    head = _head(_create(name, arguments, _PROBE), name)
    state = _renamed(file.state)
    if f"{head}.weight" not in state:
        raise unfit(file.path, f"no {head}.weight, the head of torchvision:{name.architecture}")
    weight = state[f"{head}.weight"]
    network = _create(name, arguments, len(weight))
    _load(network, state, file)
    bias = state.get(f"{head}.bias", weight.new_zeros(len(weight)))
    holder, _, place = head.rpartition(".")
    network.get_submodule(holder)._modules[place] = nn.Identity()
    return network, weight, bias, _scale(name, file, published)


def _published(architecture: str, file: WeightFile) -> Any:
    """Return torchvision's facts about its own files, named by their hash; None for others."""
    from torchvision import models

    found = hashlib.sha256(file.path.read_bytes()).hexdigest() if file.path.is_file() else "-"
    for weights in models.get_model_weights(architecture):
        stamp = weights.url.rpartition("-")[2].partition(".")[0]
        if found.startswith(stamp):
            return weights
    return None


def _arguments(name: Name, file: WeightFile, published: Any) -> dict[str, object]:
    """Arguments of the constructor."""
    given = name.constructor
    if name.architecture not in _SCALES_INSIDE:
        return given
    if published is None and "transform_input" not in given:
        raise BadConfig(
            expected=f"torchvision:{name.architecture}[transform_input=True], for weights that "
            "began as torchvision's own, or [transform_input=False]",
            found=f"{file.path.name}, which is none of torchvision's files",
            fix="State which one in the brackets",
        )
    has_aux = any(key.startswith(_AUXILIARY) for key in file.state)
    return {"transform_input": True, "aux_logits": has_aux, "init_weights": False, **given}


def _create(name: Name, arguments: dict[str, object], classes: int) -> nn.Module:
    from torchvision import models

    try:
        with torch.random.fork_rng(devices=[]):
            return models.get_model(
                name.architecture, weights=None, num_classes=classes, **arguments
            )
    except TypeError as error:
        raise BadConfig(
            expected=f"arguments of torchvision's {name.architecture} in the brackets",
            found=str(error),
            fix="Remove unknown arguments",
        ) from error


def _head(network: nn.Module, name: Name) -> str:
    """The name of the linear layer that makes the logits."""
    layers = [
        key
        for key, module in network.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == _PROBE
    ]
    if not layers:
        raise Incompatible(
            expected="a network that ends in a linear layer",
            found=f"torchvision:{name.architecture}, which rectifies and pools after its last one",
            fix="Give --model another network",
        )
    return layers[-1]


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename tensors: torchvision's own DenseNet files have the names of its first versions."""
    old = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")
    return {old.sub(r"\1\2", key): value for key, value in state.items()}


def _load(network: nn.Module, state: dict[str, Tensor], file: WeightFile) -> None:
    if type(network).__name__ == "MNASNet":
        # torchvision reads a file version that only pickled files state; names of all versions are
        # refused in the same way if they do not fit.
        network._load_from_state_dict = functools.partial(  # type: ignore[method-assign]
            nn.Module._load_from_state_dict, network
        )
    load(network, file, state)


def _scale(name: Name, file: WeightFile, published: Any) -> Scale:
    """Mean and std: the name's, the file's, or those of the first published weights."""
    from torchvision import models

    weights = published or next(iter(models.get_model_weights(name.architecture)))
    told = weights.transforms()
    scale = {"mean": tuple(told.mean), "std": tuple(told.std)}
    stated = {key: file.facts[key] for key in SCALE if key in file.facts}
    scale |= {**({} if published else stated), **name.scale}
    return scale["mean"], scale["std"]
