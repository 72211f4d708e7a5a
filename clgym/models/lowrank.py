"""Low-rank changes of linear layers inside a frozen ViT: LoRA, CorDA, RandLoRA, and packed qkv.

A change is a small module beside a linear layer: it adds to the layer's output, and can return the
equivalent change of the weight (``weight_change``), so that it can be merged. `LinearChanges`
attaches one to each of several layers of a ViT; the network's own weights are never modified.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clgym.errors import Incompatible
from clgym.models.peft import Part, check_vit

__all__ = [
    "TARGETS",
    "DenseChanges",
    "LinearChanges",
    "LowRank",
    "PackedLowRank",
    "RandLoraChanges",
    "RandLora",
    "RandomBases",
    "corda_split",
    "damped",
    "input_covariance",
    "target_layers",
]

TARGETS = {
    "qkv": r"attn\.qkv",
    "qkv-proj": r"attn\.(qkv|proj)",
    "all": r"attn\.(qkv|proj)|mlp\.fc[12]",
}
"""Linear layers of a block that are changed, by name of the choice. timm keeps queries, keys and
values in one layer, so they share one A."""


def target_layers(vit: Any, targets: str) -> dict[str, nn.Linear]:
    """The linear layers of a choice in `TARGETS`, by name, block by block.

    Raises:
        Incompatible: The network is no ViT, or its blocks have other layers.
    """
    pattern = re.compile(rf"\d+\.({TARGETS[targets]})")
    blocks = check_vit(vit).blocks.named_modules()
    found = {f"blocks.{name}": m for name, m in blocks if pattern.fullmatch(name)}
    linear = {name: m for name, m in found.items() if isinstance(m, nn.Linear)}
    if not linear:
        raise Incompatible(
            expected=f"linear layers {TARGETS[targets]} in the blocks, for low-rank changes",
            found=f"none in {type(vit).__name__}",
            fix="Give --backbone a vision transformer of timm",
        )
    return linear


# --- single layers -------------------------------------------------------------------------------


class LowRank(nn.Module):
    """LoRA: s B (A x), s = alpha / rank; A Kaiming-uniform, B zero, so that it begins as zero.

    With other initial values A0, B0 (`begin_at`) it is s (B A - B0 A0) x: the product that the
    frozen weight already contains is subtracted, so that it begins as zero, too.

    Attributes:
        down: A, [rank, in].
        up: B, [out, rank].
        first_down, first_up: A0 and B0; zeros by default.
    """

    first_down: Tensor
    first_up: Tensor

    def __init__(self, inputs: int, outputs: int, rank: int, alpha: float) -> None:
        """Make the change of a layer with ``inputs`` inputs and ``outputs`` outputs."""
        super().__init__()
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.empty(rank, inputs))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.register_buffer("first_down", torch.zeros(rank, inputs))
        self.register_buffer("first_up", torch.zeros(outputs, rank))

    @torch.no_grad()
    def begin_at(self, down: Tensor, up: Tensor) -> None:
        """Set initial A and B whose product is part of the frozen weight."""
        for own, first, value in (
            (self.down, self.first_down, down),
            (self.up, self.first_up, up),
        ):
            own.copy_(value)
            first.copy_(value)

    def forward(self, inputs: Tensor) -> Tensor:
        """Change of the layer's output [..., out] for its inputs [..., in]."""
        now = F.linear(F.linear(inputs, self.down), self.up)
        return self.scale * (now - F.linear(F.linear(inputs, self.first_down), self.first_up))

    def weight_change(self) -> Tensor:
        """Equivalent change of the weight, [out, in]."""
        return self.scale * (self.up @ self.down - self.first_up @ self.first_down)


class RandomBases(nn.Module):
    """Frozen random bases that all `RandLora` layers of a network share.

    Attributes:
        down: [rank, 1, MN], MN the greatest short side of a layer.
        up: [MX, n, rank], MX the greatest long side, n = ceil(MN / rank).
    """

    down: Tensor
    up: Tensor

    def __init__(
        self,
        shapes: Sequence[tuple[int, int]],
        rank: int,
        generator: torch.Generator,
        kind: Literal["uniform", "sparse", "very-sparse"] = "uniform",
    ) -> None:
        """Draw bases for layers of ``shapes`` (out, in) on the CPU, with standard deviation 1."""
        super().__init__()
        # The elementwise maximum of all shapes, as in peft, not the maximum of each side's length.
        most = [max(sides) for sides in zip(*shapes, strict=True)]
        short, long = min(most), max(most)
        count = -(-short // rank)
        down = _drawn((rank, 1, short), short, generator, kind)
        up = _drawn((long, count, rank), short, generator, kind)
        # Bases can be drawn again from their generator, so no state contains them.
        self.register_buffer("down", down, persistent=False)
        self.register_buffer("up", up, persistent=False)


def _drawn(shape: tuple[int, ...], short: int, generator: torch.Generator, kind: str) -> Tensor:
    uniform = torch.rand(shape, generator=generator)
    if kind == "uniform":
        made = 2 * uniform - 1
    else:
        edge = 1 / 6 if kind == "sparse" else 1 / math.sqrt(short)
        made = (uniform > 1 - edge).to(uniform) - (uniform < edge).to(uniform)
    return made / made.std()


class RandLora(nn.Module):
    """RandLoRA: a full-rank change, diagonal scalings of frozen random bases.

    Attributes:
        row_scales: lambda, [rank, n]; begins at 0, so that the change begins as zero.
        column_scales: gamma, [n, short side]; begins at 1 / max(n, short side).
    """

    def __init__(self, inputs: int, outputs: int, rank: int, alpha: float) -> None:
        """Make the change of a layer; its bases are an argument of `weight_change`."""
        super().__init__()
        self.inputs, self.short, self.long = inputs, min(inputs, outputs), max(inputs, outputs)
        self.scale, count = alpha / rank, -(-self.short // rank)
        self.row_scales = nn.Parameter(torch.zeros(rank, count))
        filled = torch.full((count, self.short), 1 / max(count, self.short))
        self.column_scales = nn.Parameter(filled)

    def weight_change(self, bases: RandomBases) -> Tensor:
        """Change of the weight, [out, in].

        In peft and in the authors' code the two products are laid out in different orders, so that
        the scalings of one base apply to another. This is kept here to give equal numbers.
        """
        rank, count = self.row_scales.shape
        down = bases.down[:, :, : self.short]
        scaled = self.row_scales[:, :, None] * down * self.column_scales  # rank, n, short
        flat_down = scaled.reshape(rank * count, self.short)
        flat_up = bases.up[: self.long, :count].reshape(self.long, count * rank)
        made = self.scale * flat_up @ flat_down
        return made if self.short == self.inputs else made.T


class PackedLowRank(nn.Module):
    """Low-rank changes of some of queries, keys and values in timm's packed layer.

    Attributes:
        parts: Parts that are changed: 0 queries, 1 keys, 2 values.
        down: A for each part, [parts, rank, width]; Kaiming-uniform.
        up: B for each part, [parts, width, rank]; zero.
    """

    def __init__(self, width: int, rank: int, parts: Sequence[int]) -> None:
        """Make the change of a packed layer with ``width`` inputs."""
        super().__init__()
        self.parts = tuple(parts)
        rows = torch.empty(len(self.parts), rank, width)
        for part in rows:
            nn.init.kaiming_uniform_(part, a=math.sqrt(5))
        self.down = nn.Parameter(rows)
        self.up = nn.Parameter(torch.zeros(len(self.parts), width, rank))

    def forward(self, inputs: Tensor) -> Tensor:
        """Change of the packed output [..., 3 width] for inputs [..., width]."""
        return self.packed(
            [F.linear(F.linear(inputs, a), b) for a, b in zip(self.down, self.up, strict=True)]
        )

    def packed(self, changes: Sequence[Tensor]) -> Tensor:
        """Changes of the parts, [..., width] each, in the packed order; zeros elsewhere."""
        by_part = dict(zip(self.parts, changes, strict=True))
        nothing = torch.zeros_like(changes[0])
        return torch.cat([by_part.get(part, nothing) for part in range(3)], dim=-1)

    def weight_change(self) -> Tensor:
        """Change of the packed weight, [3 width, width]."""
        changes = [(b @ a).T for a, b in zip(self.down, self.up, strict=True)]
        return self.packed(changes).T


# --- in a network --------------------------------------------------------------------------------


class LinearChanges(Part):
    """Changes of several linear layers of a ViT."""

    def __init__(self, changes: Mapping[str, nn.Module]) -> None:
        """``changes``: by name of a layer, the module whose output is added to the layer's."""
        super().__init__()
        self.names = list(changes)
        self.changes = nn.ModuleList(changes.values())

    def __getitem__(self, name: str) -> Any:
        """Return the change of a layer."""
        return self.changes[self.names.index(name)]

    def weight_change(self, name: str) -> Tensor:
        """Change of a layer's weight, [out, in]."""
        return self[name].weight_change()

    def hooks(self, vit: Any) -> Iterator[Any]:
        """Beside the layers."""
        for name, change in zip(self.names, self.changes, strict=True):
            yield vit.get_submodule(name).register_forward_hook(_adding(change))


def _adding(change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def add(module: nn.Module, args: tuple[Tensor], out: Tensor) -> Tensor:
        return out + change(args[0])

    return add


class RandLoraChanges(LinearChanges):
    """A `RandLora` for each of several linear layers, with shared bases."""

    def __init__(self, changes: Mapping[str, RandLora], bases: RandomBases) -> None:
        """``changes``: by name of a layer, the module that gives the change of its weight."""
        super().__init__(changes)
        self.bases = bases

    def hooks(self, vit: Any) -> Iterator[Any]:
        """Beside the layers."""
        for name in self.names:
            change = _adding(lambda inputs, name=name: F.linear(inputs, self.weight_change(name)))
            yield vit.get_submodule(name).register_forward_hook(change)

    def weight_change(self, name: str) -> Tensor:
        """Change of a layer's weight, [out, in]."""
        return self[name].weight_change(self.bases)


class DenseChanges(Part):
    """Changes of whole weights, which earlier sessions have merged.

    Attributes:
        weights: Change of a layer's weight, [out, in], by name of the layer.
    """

    def __init__(self) -> None:
        """Begin without a change."""
        super().__init__()
        self.weights: dict[str, Tensor] = {}

    @torch.no_grad()
    def merge(self, name: str, change: Tensor) -> None:
        """Add to the change of one layer's weight."""
        held = self.weights.get(name)
        self.weights[name] = change.detach().clone() if held is None else held + change

    def merge_all(self, changes: LinearChanges) -> None:
        """Merge the changes of all layers."""
        for name in changes.names:
            self.merge(name, changes.weight_change(name))

    def hooks(self, vit: Any) -> Iterator[Any]:
        """Beside the layers."""
        for name, weight in self.weights.items():
            change = _adding(lambda inputs, weight=weight: F.linear(inputs, weight))
            yield vit.get_submodule(name).register_forward_hook(change)

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Tensor]:
        """The changes by name."""
        return dict(self.weights)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        """Restore `state_dict`."""
        self.weights = dict(state_dict)


# --- CorDA ---------------------------------------------------------------------------------------


def input_covariance(samples: Tensor) -> Tensor:
    """Covariance of a layer's inputs, [in, in]: mean over samples of X^T X.

    Args:
        samples: [n, tokens, in]; each is divided by the size of its largest (signed) value.
    """
    scaled = samples / samples.amax(dim=(1, 2), keepdim=True).abs()
    return torch.einsum("nti,ntj->ij", scaled, scaled) / len(samples)


def damped(
    covariance: Tensor, start: float = 0.01, factor: float = 2.0, limit: float = 0.05
) -> tuple[Tensor, Tensor]:
    """Return a covariance that can be inverted, and its inverse.

    ``start`` times the mean variance is added to the diagonal, then ``factor`` times as much in
    each attempt, until the Frobenius norm of C C^-1 - I is at most ``limit``.
    """
    same = torch.eye(len(covariance)).to(covariance)
    amount = start
    while True:
        raised = covariance + amount * covariance.diagonal().mean() * same
        inverse = torch.linalg.inv(raised)
        if torch.linalg.norm(raised @ inverse - same) < limit:
            return raised, inverse
        amount *= factor


def corda_split(
    weight: Tensor,
    covariance: Tensor,
    rank: int,
    scale: float,
    mode: Literal["preserve", "adapt"],
) -> tuple[Tensor, Tensor]:
    """The pair A [rank, in], B [out, rank] that CorDA trains and that is part of the weight.

    With W C = U S V^T, W = U S (C^-1 V)^T: preserve takes the ``rank`` smallest components, so that
    the directions that matter most for the inputs stay frozen; adapt takes the largest. The rest of
    the weight is W - scale B A.

    Args:
        weight: [out, in].
        covariance: Covariance of the layer's inputs, [in, in], before damping.
        rank: Number of components to take.
        scale: Factor of the product in the layer, alpha / rank.
        mode: Which components to take.
    """
    raised, inverse = damped(covariance)
    left, values, right = torch.linalg.svd(weight @ raised, full_matrices=False)
    taken = slice(-rank, None) if mode == "preserve" else slice(None, rank)
    roots = (values[taken] / scale).sqrt()
    return roots[:, None] * (right[taken] @ inverse), left[:, taken] * roots
