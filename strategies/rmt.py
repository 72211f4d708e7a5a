"""RMT: a mean teacher with symmetric cross-entropy, pulled to the source's prototypes by contrast.

Doebler, Marsden, Yang, "Robust Mean Teacher for Continual and Gradual Test-Time Adaptation", CVPR
2023, https://arxiv.org/abs/2211.13081. One step on a batch x, with A an augmented view, P the class
means of the source's features and j the nearest of them by cosine::

    L = lambda_trg mean[ 1/2 SCE(o1, t) + 1/2 SCE(o2, t) ] + lambda_con contrast(P[j], f1, f2)
        + lambda_src CE(source batch),     f1, o1 of x,   f2, o2 of A(x),   t the teacher's of x

The answer is o1 + t, logits of before the update; its confidence is that of their mean, since the
sum of two networks' logits is on twice the scale. All networks normalise by the batch. Numbers and
order follow the authors' code, where it differs from the paper. ``--lambda-src 0`` is the
source-free variant: it needs source data only once, for prototypes and warm-up; with
``--warmup-images 0`` and ``--prototypes FILE`` not at all.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import safetensors.torch
import torch
from annotated_types import Ge, Gt, Le
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

from clgym.adaptation import (
    AdaptConfig,
    AdaptStrategy,
    make_optimizer,
    move_average,
    symmetric_cross_entropy,
    weights_and_biases,
)
from clgym.config import Search
from clgym.data.view import random_view
from clgym.errors import BadSource, MissingData
from clgym.models.norm import use_batch_statistics
from clgym.strategy import Needs

_FEATURES = 100_000
"""More source features than this are not averaged."""


@dataclass(frozen=True)
class RMTConfig(AdaptConfig):
    """Options of `RMT`."""

    optimizer: Literal["adam", "sgd"] = "adam"
    """Optimizer: Adam (CIFAR), or SGD with Nesterov momentum 0.9 (ImageNet, DomainNet, at lr
    0.01)."""
    lr: Annotated[float, Ge(0), Search(low=1e-5, high=1e-2, log=True)] = 1e-3
    """Learning rate."""
    momentum: Annotated[float, Ge(0), Le(1)] = 0.999
    """Decay of the teacher's exponential moving average."""
    temperature: Annotated[float, Gt(0), Search(0.05, 0.1, 0.2)] = 0.1
    """Temperature of the contrastive loss."""
    projection: Annotated[int, Ge(0)] = 128
    """Width of the projection head; 0: none (networks that end in a bottleneck)."""
    lambda_trg: Annotated[float, Ge(0)] = 1.0
    """Weight of the consistency loss with the teacher."""
    lambda_con: Annotated[float, Ge(0), Search(0.0, 0.5, 1.0)] = 1.0
    """Weight of the contrastive loss."""
    lambda_src: Annotated[float, Ge(0)] = 1.0
    """Weight of the loss on a labelled source batch in every step; 0: source-free."""
    warmup_images: Annotated[int, Ge(0)] = 50_000
    """Number of unlabelled source images for the warm-up before the stream."""
    steps: Annotated[int, Ge(1)] = 1
    """Optimizer steps per batch."""
    prototypes: str | None = None
    """Safetensors file with ``prototypes`` [classes, d]; none: computed from the source data."""


class RMT(AdaptStrategy[RMTConfig]):
    """Robust mean teacher."""

    confidence_scale = 0.5
    CHECK_CONFIG = {"warmup_images": 64}

    @property
    def needs(self) -> Needs:
        """Source data, unless the prototypes come from a file and nothing else asks for it."""
        config = self.config
        source = config.lambda_src > 0 or config.warmup_images > 0 or config.prototypes is None
        return Needs(settings=("adaptation",), classifier=config.model, source_data=source)

    def prepare(self) -> None:
        """Student, teacher, prototypes, projector, warm-up: in this order."""
        config = self.config
        use_batch_statistics(self.model)
        self._size = (
            self.info.batch_size if self.info.batch_size not in (None, 1) else config.window
        )
        parameters = [v.requires_grad_() for v in weights_and_biases(self.model).values()]
        self.optimizer = make_optimizer(config.optimizer, parameters, config.lr)
        self.teacher = copy.deepcopy(self.model).requires_grad_(False)
        self.prototypes = self._prototypes().to(self.info.device)
        self.projector = self.make_projector(self.prototypes.shape[1]).to(self.prototypes)
        if config.projection:
            self.optimizer.add_param_group({"params": list(self.projector.parameters())})
        self._drawn = 0
        self._warm_up()

    def make_projector(self, width: int) -> nn.Module:
        """Linear - ReLU - Linear on features of ``width``, or the identity."""
        out = self.config.projection
        if not out:
            return nn.Identity()
        return nn.Sequential(nn.Linear(width, out), nn.ReLU(), nn.Linear(out, out))

    def view(self, images: Tensor) -> Tensor:
        """The augmented view of a batch."""
        return random_view(images)

    @torch.no_grad()
    def _prototypes(self) -> Tensor:
        """Mean features of each class under batch statistics, [K, d].

        Raises:
            BadSource: a class without an image: its mean would be NaN, the nearest of all.
        """
        if self.config.prototypes is not None:
            return _read_prototypes(Path(self.config.prototypes), self.model.head.weight)
        assert self.info.source_data is not None
        sums = torch.zeros_like(self.model.head.weight)
        counts, seen = sums.new_zeros(len(sums)), 0
        for images, labels in self.info.source_data.once(self._size):
            sums.index_add_(0, labels, self.model.features(images))
            counts += torch.bincount(labels, minlength=len(sums))
            seen += len(labels)
            if seen > _FEATURES:
                break
        if (counts == 0).any():
            raise BadSource(
                expected="source images of every class, to average prototypes from",
                found=f"none of class {int(counts.argmin())}",
                fix="Take more source data, or give --prototypes",
            )
        return sums / counts[:, None]

    def _source_batch(self) -> tuple[Tensor, Tensor]:
        """The next of one endless sequence, which warm-up and replay share."""
        assert self.info.source_data is not None
        self._drawn += 1
        return self.info.source_data.batch(self._size, self._drawn - 1)

    def _warm_up(self) -> None:
        """Consistency on unlabelled source images while the learning rate rises to its value."""
        steps = self.config.warmup_images // self._size
        for i in range(steps):
            self._set_lr(self.config.lr * (i + 1) / steps)
            images, _ = self._source_batch()
            with torch.no_grad():
                target = self.teacher(images)
            self._descend(symmetric_cross_entropy(self.model(images), target).mean())
        self._set_lr(self.config.lr)

    def _set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def _descend(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        move_average(self.teacher, self.model, self.config.momentum)

    def step(self, images: Tensor) -> Tensor:
        """Answer o1 + t, then descend; the last of several steps answers."""
        config, model, answer = self.config, self.model, images
        for _ in range(config.steps):
            clean = model.features(images)
            seen = model.features(self.view(images))
            first, second = model.logits(clean), model.logits(seen)
            with torch.no_grad():
                target = self.teacher(images)
            nearest = nearest_prototype(clean.detach(), self.prototypes)
            contrast = contrastive(
                [self.prototypes[nearest], clean, seen], self.projector, config.temperature
            )
            agree = 0.5 * symmetric_cross_entropy(first, target)
            agree = agree + 0.5 * symmetric_cross_entropy(second, target)
            loss = config.lambda_trg * agree.mean() + config.lambda_con * contrast
            if config.lambda_src > 0:
                source, labels = self._source_batch()
                loss = loss + config.lambda_src * cross_entropy(model(source), labels)
            self._descend(loss)
            answer = first.detach() + target
        return answer

    def answer(self, images: Tensor) -> Tensor:
        """Student plus teacher."""
        return self.model(images) + self.teacher(images)


def nearest_prototype(features: Tensor, prototypes: Tensor) -> Tensor:
    """Index of the prototype with the highest cosine, int64 [n]."""
    return cosine_similarity(features[:, None], prototypes[None], dim=2).argmax(1)


def contrastive(views: list[Tensor], projector: nn.Module, temperature: float) -> Tensor:
    """Supervised contrastive loss over views of the same n samples, each [n, d].

    Rows of one sample attract each other, and only those: two samples with the same prototype do
    not. With s the cosine of projected rows over the temperature, the mean over all rows of::

        - 1/(V - 1) sum_positives log( exp s_pos / sum_{k != self} exp s_k )
    """
    rows = normalize(projector(torch.cat(views)))
    logits = rows @ rows.T / temperature
    own = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    logs = logits.masked_fill(own, -torch.inf).log_softmax(1)
    sample = torch.arange(len(views[0]), device=rows.device).repeat(len(views))
    positive = (sample[:, None] == sample) & ~own
    return -logs[positive].sum() / (len(rows) * (len(views) - 1))


def _read_prototypes(path: Path, like: Tensor) -> Tensor:
    if not path.is_file():
        raise MissingData(
            expected=f"the prototypes {path.name}", found="no such file", fix="Check --prototypes"
        )
    try:
        found = safetensors.torch.load_file(path).get("prototypes")
    except SafetensorError as error:
        found = str(error)
    if not isinstance(found, Tensor) or found.shape != like.shape or not found.isfinite().all():
        shape = list(found.shape) if isinstance(found, Tensor) else found or "no such tensor"
        raise BadSource(
            expected=f"finite prototypes {list(like.shape)} in {path.name}",
            found=str(shape),
            fix="Compute them with the same classifier",
        )
    return found.to(like)
