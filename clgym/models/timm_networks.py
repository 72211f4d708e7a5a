"""timm's networks with weights from files, which are loaded strictly.

timm declares which layers are a network's head (``pretrained_cfg["classifier"]``), and the weights
of a headless network are those that it has without one. Nothing is guessed from a layer's name or
size.
"""

from typing import Any

import torch
from torch import Tensor, nn

from clgym.errors import BadConfig, Incompatible, UnknownName, near
from clgym.models.names import SCALE, Name
from clgym.models.pretraining import KNOWN
from clgym.models.weight_files import WeightFile, digest_of, unfit

__all__ = ["BeforeHead", "check_known", "create", "headless", "with_head"]


def check_known(name: Name) -> None:
    """Refuse names that timm does not have, and names without a tag if only a tag names weights.

    Raises:
        UnknownName: timm has no such network, or no such weights of it.
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
            fix="Give --backbone a tag, NAME@FILE or NAME@random, since a name without a tag means "
            "different weights in different versions of timm",
        )


def create(name: Name, **more: Any) -> Any:
    """Make the network with the name's arguments and ``more``, with random weights.

    Raises:
        BadConfig: The constructor does not take one of the arguments.
    """
    import timm

    try:
        network: Any = timm.create_model(name.architecture, **{**name.constructor, **more})
    except TypeError as error:
        raise BadConfig(
            expected=f"arguments of timm's {name.architecture} in the brackets",
            found=str(error),
            fix="Remove unknown arguments",
        ) from error
    cfg = network.pretrained_cfg
    # defaults of the pretrained weights, which arguments may override
    channels, height, width = cfg["input_size"]
    channels = name.arguments.get("in_chans", channels)
    side = name.arguments.get("img_size")
    height, width = (height, width) if side is None else (side, side)
    network.pretrained_cfg = {**cfg, "input_size": (channels, height, width), **name.scale}
    return network


def headless(name: Name, file: WeightFile) -> tuple[Any, Name]:
    """Return the network without its head, loaded with the weights, and its full name.

    Raises:
        BadSource: Weights are missing, left over or of another shape.
        BadConfig: Arguments of the name contradict known facts about the weights.
    """
    network = create(name, num_classes=0)
    own = network.state_dict()
    left = [k for k in file.state if k not in own]
    if left:
        whole = create(name, num_classes=1).state_dict()  # by default some networks have no head
        left = [k for k in left if k not in whole]
    _fill(network, file, left, name)
    full = _completed(name, network, file)
    if full.constructor != name.constructor:
        return headless(full, file)
    network.pretrained_cfg = {**network.pretrained_cfg, **full.scale}
    return network, full


def with_head(name: Name, file: WeightFile) -> tuple[Any, Name, bool]:
    """Return the network with the file's head, loaded with the weights, and its full name.

    The third value is True if the normalisation is unknown, so that the architecture's is used.

    Raises:
        BadSource: Weights are missing, left over or of another shape.
        BadConfig: Arguments of the name contradict known facts about the weights.
    """
    bare, full = headless(name, file)
    head = f"{_named_heads(bare)[0]}.weight"
    if head not in file.state:
        fix = f"Give a file with the head ({head}), without which a network predicts no classes"
        raise unfit(file.path, f"no {head}", fix)
    network = create(full, num_classes=len(file.state[head]))
    own = network.state_dict()
    _fill(network, file, [k for k in file.state if k not in own], name)
    known = digest_of(bare.state_dict()) in KNOWN
    stated = known or "." in name.architecture or name.scale or _stated_scale(file)
    return network, full, not stated


def _named_heads(network: Any) -> list[str]:
    """Names of the layers that make the logits; some variants have only the first.

    Raises:
        Incompatible: timm declares no such layer.
    """
    named = network.pretrained_cfg.get("classifier") or ()
    if not named:
        raise Incompatible(
            expected="a network whose head is declared in timm",
            found=f"{type(network).__name__} without",
            fix="Give --model another network",
        )
    return [named] if isinstance(named, str) else list(named)


def _completed(name: Name, network: Any, file: WeightFile) -> Name:
    """Add to the name the arguments that the weights need, and their normalisation.

    Known weights are recognised by their hash; other files may state the normalisation, else the
    architecture's is assumed.
    """
    known = KNOWN.get(digest_of(network.state_dict()))
    needed, scale = (known.arguments, known.scale) if known else ({}, {})
    if not known and not name.is_recorded:
        scale = _stated_scale(file)
    given = {k: name.arguments[k] for k in needed if k in name.arguments}
    if any(given[k] != needed[k] for k in given) or (name.is_recorded and len(given) < len(needed)):
        wanted = ",".join(f"{k}={v}" for k, v in needed.items())
        raise BadConfig(
            expected=f"{name.architecture}[{wanted}], which these weights were trained with",
            found=name.bare,
            fix="Write it in this form; earlier versions of clgym ran the network without it",
        )
    cfg = network.pretrained_cfg
    scale = {key: value for key, value in scale.items() if tuple(cfg[key]) != tuple(value)}
    return name.with_arguments({**needed, **scale})


def _stated_scale(file: WeightFile) -> dict[str, tuple[float, ...]]:
    """Mean and standard deviation that the file states directly or by its architecture's name."""
    import timm

    stated = {key: file.facts[key] for key in SCALE if key in file.facts}
    if stated or "architecture" not in file.facts:
        return stated
    facts: Any = timm.models.get_pretrained_cfg(file.facts["architecture"])
    return {} if facts is None else {"mean": tuple(facts.mean), "std": tuple(facts.std)}


def _fill(network: Any, file: WeightFile, left: list[str], name: Name) -> None:
    """Load weights strictly.

    Raises:
        BadSource: Weights are missing, left over or of another shape.
    """
    own = network.state_dict()
    state = {k: file.state.get(k) for k in own}
    # Files of old versions of torch lack the count of batches, which is not used.
    counts = {k: v for k, v in own.items() if k.endswith("num_batches_tracked")}
    state = {k: counts[k] if v is None and k in counts else v for k, v in state.items()}
    bad = [k for k, v in state.items() if v is None or v.shape != own[k].shape] + left
    if bad:
        raise unfit(
            file.path,
            f"{len(bad)} missing, left over or of another shape for {name.bare}, such as {bad[0]}",
            "Name the network that the file belongs to",
        )
    network.load_state_dict(state)


class BeforeHead(nn.Module):
    """A network up to the input of its head; inputs of several heads are concatenated.

    The heads stay in the network, so that the names of its weights do not change.
    """

    def __init__(self, network: Any) -> None:
        """Take ``network`` with its head."""
        super().__init__()
        self.network = network
        present = {name for name, _ in network.named_modules()}
        self.heads = [head for head in _named_heads(network) if head in present]

    def forward(self, images: Tensor) -> Tensor:
        """Features [n, width] of normalised images."""
        read: dict[str, Tensor] = {}
        hooks = [
            self.network.get_submodule(head).register_forward_pre_hook(
                lambda _, inputs, head=head: read.__setitem__(head, inputs[0])
            )
            for head in self.heads
        ]
        try:
            self.network(images)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.cat([read[head].flatten(1) for head in self.heads], 1)

    def linear(self) -> tuple[Tensor, Tensor]:
        """Weight [columns, width] and bias of the heads, which are averaged."""
        layers = [self.network.get_submodule(head) for head in self.heads]
        weights = [layer.weight.detach().flatten(1) / len(layers) for layer in layers]
        zeros = weights[0].new_zeros(len(weights[0]))
        biases = [zeros if layer.bias is None else layer.bias.detach() for layer in layers]
        return torch.cat(weights, 1), torch.stack(biases).mean(0)
