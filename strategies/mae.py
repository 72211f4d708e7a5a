"""Masked autoencoder: patches are hidden, and a small decoder guesses their pixels.

After He, Chen, Xie, Li, Dollar, Girshick, "Masked Autoencoders Are Scalable Vision Learners", CVPR
2022 (arXiv 2111.06377), written from the paper, with timm's transformer blocks. Of N patches a
random ``floor(N (1 - ratio))`` stay; the encoder sees these alone. The decoder sees their codes and
one learned token in every hidden place, and the loss is the mean squared error of the hidden
patches, each normalised by its own mean and variance. Positions are fixed sines and cosines in two
dimensions. Trained on one experience after the other it is the learner of the papers on re-warmed
and infinite learning rates (arXiv 2503.02844), at any size. No result of a paper is reproduced:

* no class token; features are the mean of the encoder's patch codes behind its last norm, of the
  whole image;
* AdamW has PyTorch's usual constants (0.9, 0.999), the paper's are 0.9 and 0.95;
* ``micro`` and ``tiny`` are not the paper's sizes, and images are as small as the stream's.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Ge, Gt, Lt
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from clgym.avalanche import Encoder, PretrainingConfig, PretrainingStrategy
from clgym.errors import Incompatible
from clgym.strategy import StreamInfo, TrainBatch

SPACE = {"lr": [0.0003, 0.001, 0.003], "mask_ratio": [0.5, 0.75], "epochs": [5, 10, 20]}

Size = Literal["micro", "tiny", "base"]


class Widths(NamedTuple):
    """Width, depth and heads of the encoder, then of the decoder."""

    encoder: int
    depth: int
    heads: int
    decoder: int
    decoder_depth: int
    decoder_heads: int


SIZES: dict[Size, Widths] = {
    "micro": Widths(64, 2, 4, 32, 1, 4),
    "tiny": Widths(192, 12, 3, 96, 1, 3),
    "base": Widths(768, 12, 12, 512, 8, 16),
}


@dataclass(frozen=True)
class MAEConfig(PretrainingConfig):
    """Options of the masked autoencoder."""

    lr: Annotated[float, Gt(0)] = 0.001
    """Learning rate."""
    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    """Optimizer; momentum belongs to sgd, the others have their usual constants."""
    weight_decay: Annotated[float, Ge(0)] = 0.05
    """Weight decay."""
    epochs: Annotated[int, Ge(1)] = 10
    """Number of epochs per experience."""
    batch_size: Annotated[int, Ge(1)] = 64
    """New samples per step."""
    size: Size = "micro"
    """Width and depth of the network: micro (64, 2 blocks), tiny (192, 12) or base (768, 12)."""
    patch: Annotated[int, Ge(1)] = 2
    """Side of a patch in pixels, which divides the images' sides."""
    mask_ratio: Annotated[float, Gt(0), Lt(1)] = 0.75
    """Share of the patches that are hidden."""
    normalise_patches: bool = True
    """Whether targets are normalised by each patch's own mean and variance."""


class MaskedAutoencoder(Encoder):
    """Encoder and decoder."""

    places: Tensor
    decoder_places: Tensor

    def __init__(self, info: StreamInfo, widths: Widths, patch: int) -> None:
        """Build them for the images of a stream, which ``patch`` divides."""
        super().__init__(info.mean, info.std)
        channels, height, width = info.image_shape
        grid, w = [height // patch, width // patch], widths
        self.patch = patch
        self.embed = nn.Linear(channels * patch**2, w.encoder)
        self.blocks = nn.ModuleList(_block(w.encoder, w.heads) for _ in range(w.depth))
        self.norm = nn.LayerNorm(w.encoder)
        self.narrow = nn.Linear(w.encoder, w.decoder)
        self.hidden = nn.Parameter(torch.empty(w.decoder).normal_(std=0.02))
        decoder = (_block(w.decoder, w.decoder_heads) for _ in range(w.decoder_depth))
        self.decoder = nn.ModuleList(decoder)
        self.decoder_norm = nn.LayerNorm(w.decoder)
        self.pixels = nn.Linear(w.decoder, channels * patch**2)
        self.register_buffer("places", build_sincos2d_pos_embed(grid, w.encoder), persistent=False)
        narrow = build_sincos2d_pos_embed(grid, w.decoder)
        self.register_buffer("decoder_places", narrow, persistent=False)
        self.apply(_initialise)

    def patches(self, images: Tensor) -> Tensor:
        """Images [n, C, H, W] as patches [n, N, C p p], row by row."""
        p = self.patch
        return nn.functional.unfold(images, p, stride=p).transpose(1, 2)

    def encode(self, patches: Tensor, kept: Tensor | None = None) -> Tensor:
        """Codes of patches, [n, k, width].

        Args:
            patches: [n, N, C p p].
            kept: int64 [n, k], places of those that the encoder sees; None: all.
        """
        codes = self.embed(patches) + self.places
        codes = codes if kept is None else _taken(codes, kept)
        for block in self.blocks:
            codes = block(codes)
        return self.norm(codes)

    def decode(self, codes: Tensor, kept: Tensor) -> Tensor:
        """Guesses of all patches, [n, N, C p p], from the codes of those kept."""
        tokens = self.hidden.expand(len(codes), len(self.decoder_places), -1).clone()
        rows = torch.arange(len(codes), device=codes.device)[:, None]
        tokens[rows, kept] = self.narrow(codes)
        tokens = tokens + self.decoder_places
        for block in self.decoder:
            tokens = block(tokens)
        return self.pixels(self.decoder_norm(tokens))

    def features(self, images: Tensor) -> Tensor:
        """Mean code of all patches, [n, width]."""
        return self.encode(self.patches(self.normalised(images))).mean(1)


class MAE(PretrainingStrategy[MAEConfig]):
    """Masked autoencoder on one experience after the other."""

    def make_encoder(self) -> Encoder:
        """Encoder and decoder of the size that the options name.

        Raises:
            Incompatible: patches do not fit the images, or none would be seen or hidden.
        """
        config, shape = self.config, self.info.image_shape
        count = shape[1] // config.patch * (shape[2] // config.patch)
        seen = visible(count, config.mask_ratio)
        if shape[1] % config.patch or shape[2] % config.patch or not 0 < seen < count:
            raise Incompatible(
                expected="patches that fill the images, of which some are hidden and some are not",
                found=f"patches of {config.patch} in images of {shape[1]} x {shape[2]} pixels, of "
                f"which {seen} of {count} stay",
                fix="Give --patch another side, or --mask-ratio another share",
            )
        return MaskedAutoencoder(self.info, SIZES[config.size], config.patch)

    def objective(self, batch: TrainBatch) -> Tensor:
        """Error of the hidden patches."""
        network: MaskedAutoencoder = self.network
        patches = network.patches(network.normalised(batch.images))
        count = patches.shape[1]
        order = torch.rand(len(patches), count, generator=self.rng("mask")).argsort(1)
        kept, gone = order.to(patches.device).split(
            [seen := visible(count, self.config.mask_ratio), count - seen], dim=1
        )
        guesses = network.decode(network.encode(patches, kept), kept)
        return patch_error(
            _taken(guesses, gone), _taken(patches, gone), self.config.normalise_patches
        )


def visible(count: int, ratio: float) -> int:
    """Number of ``count`` patches that stay where a share ``ratio`` is hidden."""
    return int(count * (1 - ratio) + 1e-9)  # 1 - 0.9 is a little less than 0.1


def patch_error(guesses: Tensor, patches: Tensor, normalise: bool) -> Tensor:
    """Mean squared error of hidden patches, [].

    Args:
        guesses: [n, m, d].
        patches: [n, m, d].
        normalise: Whether each patch is brought to mean 0 and variance 1 first.
    """
    if normalise:
        mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
        patches = (patches - mean) / (variance + 1e-6).sqrt()
    return (guesses - patches).square().mean()


def _block(width: int, heads: int) -> nn.Module:
    return Block(width, heads, qkv_bias=True)


def _taken(values: Tensor, places: Tensor) -> Tensor:
    """Some of the patches of each image, [n, k, d]."""
    return values[torch.arange(len(values), device=values.device)[:, None], places]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
