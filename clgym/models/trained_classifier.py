"""The small classifier that clgym trains once on the source's training rows."""

import json

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from clgym.checksums import is_undamaged, with_checksum
from clgym.data.experience import Report
from clgym.data.generators import seed_generators, torch_generator, untouched_generators
from clgym.data.source_data import SourceData
from clgym.data.store import cache_dir
from clgym.errors import MissingData
from clgym.files import canonical_json, sha256, write_atomic, writing
from clgym.models import weight_files
from clgym.models.cifar_resnet import CifarResNet
from clgym.models.wanted import ClassifierSpec
from clgym.strategy import Classifier

__all__ = ["trained"]

_AUTO = {"recipe": 2, "blocks": 1, "epochs": 8, "batch": 64, "lr": 0.01, "seed": 0}
_STREAM = "auto classifier"
_REPORT_STEPS = 10
"""Steps between two reports: reading the loss waits for the device."""


def trained(
    wanted: ClassifierSpec,
    source: SourceData | None,
    device: torch.device,
    report: Report,
) -> Classifier:
    """ResNet-8 trained on the source's training rows, from the cache if available.

    Raises:
        MissingData: The stream has no source rows.
    """
    if source is None:
        raise MissingData(
            expected="the source's training rows, to train a classifier from",
            found="none on this stream",
            fix="Give --model NETWORK@FILE, or a --source whose data are on this machine",
        )
    facts = [_AUTO, wanted.fingerprint, wanted.image_shape, len(source), len(wanted.classes)]
    path = cache_dir() / "classifiers" / f"{sha256(canonical_json(facts))}.safetensors"
    with untouched_generators(device):
        seed_generators(_AUTO["seed"], _STREAM, "weights")
        backbone = CifarResNet(_AUTO["blocks"], wanted.image_shape[0])
        classifier = Classifier(
            backbone, CifarResNet.width, len(wanted.classes), wanted.mean, wanted.std
        ).to(device)
        if is_undamaged(path):
            weight_files.load(classifier, weight_files.read(path))
            return classifier
        _fit(classifier, source, report)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().contiguous() for k, v in classifier.state_dict().items()}
    data = safetensors.torch.save(state, {"recipe": json.dumps(_AUTO)})
    write_atomic(path, with_checksum(data))
    return classifier


def _fit(classifier: Classifier, source: SourceData, report: Report) -> None:
    """Train by cross-entropy, AdamW and one cycle of rates, on images shifted by up to 1/8."""
    size = _AUTO["batch"]
    steps = _AUTO["epochs"] * -(-len(source) // size)
    optimizer = torch.optim.AdamW(classifier.parameters(), _AUTO["lr"], weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _AUTO["lr"], steps)
    # the cache serves all runs, so it must not depend on a run's seed
    source = source.with_seed(_AUTO["seed"])
    draws = torch_generator(_AUTO["seed"], _STREAM, "shifts")
    classifier.train()
    for step in range(steps):
        images, labels = source.batch(size, step)
        loss = F.cross_entropy(classifier(_shifted(images, draws)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % _REPORT_STEPS == 0 or step + 1 == steps:
            report({"experience": 0, "step": step + 1, "steps": steps, "loss": loss.item()})
    classifier.eval()


def _shifted(images: Tensor, draws: torch.Generator) -> Tensor:
    """Shift all images by the same few pixels; they are not mirrored, since digits must not be."""
    reach, side = max(1, images.shape[-1] // 8), images.shape[-1]
    top, left = torch.randint(2 * reach + 1, (2,), generator=draws).tolist()
    padded = F.pad(images, (reach,) * 4)
    return padded[:, :, top : top + images.shape[-2], left : left + side]
