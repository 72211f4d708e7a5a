"""Parameter-efficient modules: small trained modules that change what a frozen ViT computes.

A module (`Part`) holds its own parameters and never modifies the network's: ``with part.on(vit):
vit(x)`` attaches it to timm's blocks by hooks for the time of the block. So one frozen network
serves all modules.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clgym.attributes import Stateful
from clgym.errors import Incompatible

__all__ = [
    "AdapterBank",
    "Adapters",
    "DeepPrompts",
    "Part",
    "ShallowPrompts",
    "ScaleShift",
    "check_vit",
]

SCALE = 0.1
"""Weight of an adapter's output."""


def check_vit(model: Any) -> Any:
    """Return the model if it is a ViT of timm, whose blocks the modules can be attached to.

    Raises:
        Incompatible: The model is something else.
    """
    blocks = getattr(model, "blocks", None)
    if blocks is None or not all(hasattr(b, "norm2") and hasattr(b, "mlp") for b in blocks):
        raise Incompatible(
            expected="a vision transformer of timm, for adapters, scales or prompts",
            found=type(model).__name__,
            fix="Give --backbone a ViT, or --variant finetune",
        )
    return model


class Part(nn.Module):
    """Base of trainable modules attached to a frozen ViT by hooks."""

    def hooks(self, vit: Any) -> Iterator[Any]:
        """Register hooks on the modules of ``vit``; yield their handles."""
        raise NotImplementedError

    @contextmanager
    def on(self, vit: nn.Module) -> Iterator[None]:
        """Let ``vit`` compute with this module inside the ``with`` block."""
        handles = list(self.hooks(vit))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


# --- adapters ------------------------------------------------------------------------------------


def _beside_mlp(vit: Any, change: Callable[[int, Tensor], Tensor]) -> Iterator[Any]:
    """Add ``change(block, y)`` to every block's output; y is the residual after attention."""
    for number, block in enumerate(vit.blocks):
        seen: list[Tensor] = []

        def keep(module: nn.Module, args: tuple[Tensor], seen: list[Tensor] = seen) -> None:
            seen[:] = args

        def add(
            module: nn.Module,
            args: Any,
            out: Tensor,
            number: int = number,
            seen: list[Tensor] = seen,
        ) -> Tensor:
            return out + change(number, seen.pop())

        yield block.norm2.register_forward_pre_hook(keep)
        yield block.register_forward_hook(add)


class Adapters(Part):
    """One bottleneck per block, parallel to the MLP: y + MLP(LN2(y)) + 0.1 Up(ReLU(Down(y))).

    AdaptFormer (Chen et al. 2022): Down Kaiming-uniform, Up and biases zero, so that the change
    begins as zero. In training mode there is dropout between ReLU and Up.
    """

    def __init__(self, vit: Any, rank: int, dropout: float = 0.1) -> None:
        """Make an adapter of rank ``rank`` for every block of ``vit``."""
        super().__init__()
        depth, width = len(check_vit(vit).blocks), vit.embed_dim
        downs = [nn.Linear(width, rank) for _ in range(depth)]
        ups = [nn.Linear(rank, width) for _ in range(depth)]
        for down, up in zip(downs, ups, strict=True):
            nn.init.kaiming_uniform_(down.weight, a=5**0.5)
            for zero in (down.bias, up.weight, up.bias):
                nn.init.zeros_(zero)
        self.down, self.up = nn.ModuleList(downs), nn.ModuleList(ups)
        self.dropout = nn.Dropout(dropout)

    def change(self, block: int, tokens: Tensor) -> Tensor:
        """Output that the adapter adds to block ``block``, for tokens [n, t, d]."""
        inner = self.dropout(F.relu(self.down[block](tokens)))
        return SCALE * self.up[block](inner)

    def hooks(self, vit: Any) -> Iterator[Any]:
        """Beside the MLPs."""
        return _beside_mlp(vit, self.change)

    @torch.no_grad()
    def pull(self, towards: Mapping[str, Tensor], alpha: float) -> None:
        """Merge by assignment: every parameter p becomes (1 - alpha) p + alpha towards[p]."""
        for name, value in self.named_parameters():
            value.data = (1 - alpha) * value.data + alpha * towards[name]


class AdapterBank(Stateful):
    """A collection of adapters, of which each image of a batch may use a different one.

    Attributes:
        tensors: Stacked values [kept, ...] by parameter name of `Adapters`.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self.tensors: dict[str, Tensor] = {}

    def __len__(self) -> int:
        """Return the number of stored adapters."""
        return len(next(iter(self.tensors.values()), ()))

    def add(self, adapters: Adapters) -> None:
        """Store a copy of ``adapters``."""
        for name, value in adapters.named_parameters():
            new = value.detach().clone()[None]
            held = self.tensors.get(name)
            self.tensors[name] = new if held is None else torch.cat([held, new])

    def copy_to(self, adapters: Adapters, number: int) -> None:
        """Set ``adapters`` to the values of stored adapter ``number``."""
        adapters.load_state_dict({name: value[number] for name, value in self.tensors.items()})

    def replace(self, number: int, adapters: Adapters) -> None:
        """Replace the values of stored adapter ``number``."""
        for name, value in adapters.named_parameters():
            self.tensors[name][number] = value.detach()

    def mean(self, count: int) -> dict[str, Tensor]:
        """Unweighted mean of the first ``count`` adapters, by parameter name."""
        return {name: value[:count].mean(0) for name, value in self.tensors.items()}

    def change(self, which: Tensor, block: int, tokens: Tensor) -> Tensor:
        """Like `Adapters.change`, with image i of the batch through adapter ``which[i]``."""
        t = {key: self.tensors[f"{key[0]}.{block}.{key[1]}"][which] for key in _TENSORS}
        inner = torch.baddbmm(
            t["down", "bias"][:, None], tokens, t["down", "weight"].transpose(1, 2)
        )
        return SCALE * torch.baddbmm(
            t["up", "bias"][:, None], F.relu(inner), t["up", "weight"].transpose(1, 2)
        )

    @contextmanager
    def on(self, vit: nn.Module, which: Tensor) -> Iterator[None]:
        """Let ``vit`` compute with adapter ``which[i]`` (int64 [n]) for image i."""
        handles = list(_beside_mlp(vit, lambda block, y: self.change(which, block, y)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


_TENSORS = [(layer, kind) for layer in ("down", "up") for kind in ("weight", "bias")]


# --- scales and shifts ---------------------------------------------------------------------------


class ScaleShift(Part):
    """SSF (Lian et al. 2022): v <- scale * v + shift per channel, after every operation of a block.

    After patch projection, LN1, qkv, attention projection, LN2, fc1 (before GELU), fc2 and the
    final norm. Scales begin as N(1, 0.02^2) and shifts as N(0, 0.02^2), not as the identity.
    """

    def __init__(self, vit: Any) -> None:
        """Make a scale and a shift for every site of ``vit``."""
        super().__init__()
        sites = self._sites(check_vit(vit))
        self.scale = nn.ParameterDict({name: _normal(width, 1.0) for name, _, width in sites})
        self.shift = nn.ParameterDict({name: _normal(width, 0.0) for name, _, width in sites})

    @staticmethod
    def _sites(vit: Any) -> list[tuple[str, nn.Module, int]]:
        """Name, module whose output is changed, channels."""
        width = vit.embed_dim
        sites = [("patch_embed", vit.patch_embed, width), ("norm", vit.norm, width)]
        for i, block in enumerate(vit.blocks):
            attention, mlp = block.attn, block.mlp
            sites += [
                (f"{i}_norm1", block.norm1, width),
                (f"{i}_qkv", attention.qkv, attention.qkv.out_features),
                (f"{i}_proj", attention.proj, width),
                (f"{i}_norm2", block.norm2, width),
                (f"{i}_fc1", mlp.fc1, mlp.fc1.out_features),
                (f"{i}_fc2", mlp.fc2, width),
            ]
        return sites

    def hooks(self, vit: Any) -> Iterator[Any]:
        """After every site."""
        for name, module, _ in self._sites(vit):

            def change(module: nn.Module, args: Any, out: Tensor, name: str = name) -> Tensor:
                return out * self.scale[name] + self.shift[name]

            yield module.register_forward_hook(change)


def _normal(width: int, mean: float) -> nn.Parameter:
    return nn.Parameter(torch.empty(width).normal_(mean, 0.02))


# --- prompts -------------------------------------------------------------------------------------


class _Prompts(Part):
    """Tokens appended to the sequence [class, patches], without position; they begin as zeros."""

    def __init__(self, groups: int, count: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.zeros(groups, count, width))

    def append(self, group: int) -> Callable[..., tuple[Tensor]]:
        def hook(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
            tokens = args[0]
            return (torch.cat([tokens, self.tokens[group].expand(len(tokens), -1, -1)], dim=1),)

        return hook

    def cut(self, module: nn.Module, args: Any, tokens: Tensor) -> Tensor:
        return tokens[:, : tokens.shape[1] - self.tokens.shape[1]]


class ShallowPrompts(_Prompts):
    """VPT-shallow (Jia et al. 2022): the same prompts pass through all blocks."""

    def __init__(self, vit: Any, count: int) -> None:
        """``count`` prompts before the first block."""
        super().__init__(1, count, check_vit(vit).embed_dim)

    def hooks(self, vit: Any) -> Iterator[Any]:
        """Before the first block, and behind the last, ahead of the final norm."""
        yield vit.blocks[0].register_forward_pre_hook(self.append(0))
        yield vit.blocks[-1].register_forward_hook(self.cut)


class DeepPrompts(_Prompts):
    """VPT-deep: every block has its own prompts, which are removed after it."""

    def __init__(self, vit: Any, count: int) -> None:
        """``count`` prompts for every block."""
        super().__init__(len(check_vit(vit).blocks), count, vit.embed_dim)

    def hooks(self, vit: Any) -> Iterator[Any]:
        """Around every block."""
        for group, block in enumerate(vit.blocks):
            yield block.register_forward_pre_hook(self.append(group))
            yield block.register_forward_hook(self.cut)
