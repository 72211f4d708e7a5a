"""Facts about pretrained weights: their identity, pretraining data and licences.

This module does not import torch, since the gym imports it, too.
"""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["KNOWN", "Known", "overlap", "seen_in"]


@dataclass(frozen=True)
class Known:
    """Weights with a known hash and origin."""

    tag: str
    """Tag of the weights in timm."""
    pretraining: tuple[str, ...]
    licence: str
    origin: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of timm's constructor that the weights require."""
    scale: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """``mean`` and ``std`` of the images' normalisation."""


_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

KNOWN: dict[str, Known] = {
    "cb15d4b5f35bb048e9ca6055e0a3a5c00eab6b6bcbde6cac8973cd1006f04a6c": Known(
        "deit_tiny_patch16_224.fb_in1k",
        ("imagenet-1k",),
        "Apache-2.0",
        "github.com/wvfunc/matlab-bit_true-deit_tiny-fix, float16, LayerNorm rounded there",
        scale=_IMAGENET,
    ),
    "522a8d631041e30c1b829b53a24921b29a005502e38146c5e2bd8521a552af1a": Known(
        "mobilenetv2_100.tf_in1k",
        ("imagenet-1k",),
        "Apache-2.0",
        "github.com/google-coral/test_data, tf2_mobilenet_v2_1.0_224_ptq.tflite, dequantised",
        arguments={"pad_type": "same"},
        scale=_HALF,
    ),
}
"""Known weights by `clgym.models.backbones.digest` of the network without its head."""

_SETS = {
    "in1k": "imagenet-1k",
    "in12k": "imagenet-12k",
    "in21k": "imagenet-21k",
    "in22k": "imagenet-22k",
}
_SYNSETS = {
    "imagenet-1k": "imagenet_synsets.txt",
    "imagenet-12k": "imagenet12k_synsets.txt",
    "imagenet-21k": "imagenet21k_goog_synsets.txt",
    "imagenet-22k": "imagenet22k_synsets.txt",
}


def seen_in(tag: str) -> tuple[str, ...]:
    """The image sets that a timm tag names, such as two for ``x.augreg_in21k_ft_in1k``.

    Empty if the tag names none.
    """
    words = re.findall(r"in\d+k", tag.partition(".")[2])
    return tuple(dict.fromkeys(_SETS[word] for word in words if word in _SETS))


def overlap(pretraining: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Classes (canonical ids) that the pretraining data contain, too.

    ImageNet's ids are compared as they are, other names with the words of every synset: a class
    with another spelling is missed.
    """
    known = set().union(*(_words(name) for name in pretraining if name in _SYNSETS))
    return [c for c in classes if _plain(c.rpartition("/")[2]) in known]


@cache
def _words(name: str) -> frozenset[str]:
    """Synset ids and lemmas of a pretraining set, from the lists that come with timm."""
    # located without an import, which would also import torch
    spec = importlib.util.find_spec("timm")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "data" / "_info"
    ids = (folder / _SYNSETS[name]).read_text().split()
    lines = (folder / "imagenet_synset_to_lemma.txt").read_text().splitlines()
    lemmas = dict(line.split("\t")[:2] for line in lines)
    words = {_plain(word) for i in ids for word in lemmas.get(i, "").split(",")}
    return frozenset(words | set(ids))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()
