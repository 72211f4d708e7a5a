"""CLR: one frozen CNN, and for every task small depthwise kernels behind its convolutions.

Ge, Li, Ni, Zhao, Yang, Itti, "CLR: Channel-wise Lightweight Reprogramming for Continual Learning",
ICCV 2023 (arXiv 2307.11386). Behind a frozen convolution, before its normalisation, stands a
depthwise one that starts as the identity::

    out = depthwise(conv(x); K),   K [C, 1, k, k], stride 1, padding k // 2, no bias, k = 3

A task owns these kernels, all parameters and running statistics of batch normalisation, and a
linear head. Nothing is shared but the anchor, so nothing is forgotten and the order of tasks is of
no consequence. Loss: cross-entropy + penalty * sum of |w| over what trains (the norm, not its
square). The last epoch's weights are kept. The authors keep those of the epoch that is best on the
split they report; ``--select-on valid`` keeps those that are best on training rows held out.

``--backbone`` names the anchor: a CNN of timm with its weights; ``run@FOLDER``, the network of a
finished run, on one of the sources perhaps; or ``first-task``: ``--network``, trained whole on the
first task and frozen afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le
from avalanche.core import SupervisedPlugin
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from clgym.avalanche import SGDConfig, SGDStrategy
from clgym.data.shares import rows_of_share
from clgym.errors import BadConfig
from clgym.models.backbones import Frozen, load
from clgym.models.networks import Classifier
from clgym.strategy import Batch, Experience, Needs, Stateful, StreamInfo

FIRST_TASK = "first-task"
Variant = Literal["clr", "full", "mixed"]


@dataclass(frozen=True)
class CLRConfig(SGDConfig):
    """Options of CLR."""

    backbone: str = "resnet18.tv_in1k"
    """Frozen anchor network: timm's full tag (after `clgym fetch TAG`), NAME@FILE, run@FOLDER or
    first-task."""
    image_size: Annotated[int, Ge(1)] | None = None
    """Side in pixels to which images are stretched for the anchor; none: the anchor's own."""
    variant: Literal["clr", "full", "mixed"] = "clr"
    """Kernels after 1x1 convolutions: none, as after all others, or one number per channel."""
    kernel: Annotated[int, Ge(1)] = 3
    """Side of the kernels, an odd number."""
    penalty: Annotated[float, Ge(0)] = 1e-5
    """Weight of the penalty, the sum of the norms of all trained parameters."""
    lr: Annotated[float, Gt(0)] = 1e-3
    """Initial learning rate of Adam."""
    optimizer: Literal["adam"] = "adam"
    """Optimizer, with its usual constants."""
    epochs: Annotated[int, Ge(1)] = 60
    """Number of epochs per experience."""
    lr_drops: tuple[Annotated[float, Ge(0), Le(1)], ...] = (1 / 3, 2 / 3)
    """Fractions of the epochs after which the learning rate is divided by ten."""
    select_on: Literal["last", "valid"] = "last"
    """Weights that a task keeps: those of the last epoch, or those of the epoch with the best
    accuracy on held-out training rows (valid)."""
    select_share: Annotated[float, Gt(0), Le(0.5)] = 0.1
    """Fraction of each class that ``valid`` holds out: at least one row, never the only one."""


class CLR(SGDStrategy[CLRConfig]):
    """A frozen anchor and a set of small parts for every task.

    Attributes:
        own: Kernels, normalisation and head by task: parameters and buffers by name.
        columns: Of the logits, by task.
    """

    CHECK_CONFIG = {"backbone": "test_resnet@random", "image_size": 64, "epochs": 1}
    transient = ("_serving",)

    def plugins(self) -> Sequence[Any]:
        """Who looks for the best epoch, where that is asked for."""
        self.best = BestEpoch(self)
        return (self.best,) if self.config.select_on == "valid" else ()

    @property
    def needs(self) -> Needs:
        """Task ids, and the anchor's weights."""
        c = self.config
        frozen = None
        if c.backbone != FIRST_TASK:
            frozen = Frozen(c.backbone, c.image_size, "stretch", normalise=True)
        return Needs(task_ids=True, settings=("task-incremental",), backbone=frozen)

    def setup(self, info: StreamInfo) -> None:
        """Convert the anchor.

        Raises:
            BadConfig: the network has no convolution to put a kernel behind, or the kernel's side
                is even, which would change the size of the maps.
        """
        if self.config.kernel % 2 == 0:
            raise BadConfig(
                expected="an odd side of the kernels",
                found=str(self.config.kernel),
                fix="Give --kernel 1, 3 or 5",
            )
        super().setup(info)
        if not any(isinstance(m, Reprogrammed) for m in self.network.modules()):
            raise BadConfig(
                expected="a network with convolutions",
                found=self.config.network,
                fix="Give --network resnet18, or --backbone another network",
            )
        self.own: list[dict[str, Tensor]] = []
        self.columns: list[tuple[int, ...]] = []
        self._start = _headless(self._part())
        self._serving: dict[str, Tensor] | None = None  # the part that the network has

    def make_network(self, columns: int) -> Classifier:
        """The anchor, converted, under a head."""
        frozen = self.needs.backbone
        if frozen is None:
            network = super().make_network(columns)
        else:
            backbone = load(frozen, self.info.device)
            backbone.prepare(torch.zeros(1, *self.info.image_shape, device=self.info.device))
            network = Classifier(backbone, backbone.width, columns).to(self.info.device)
        convert(network.backbone, self.config.variant, self.config.kernel)
        return network

    def make_head(self, columns: int) -> nn.Linear:
        """A fresh head for one task."""
        return nn.Linear(self.network.head.in_features, columns).to(self.info.device)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Adam over what trains."""
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        return torch.optim.Adam(parameters, self.config.lr, weight_decay=self.config.weight_decay)

    def begin(self, experience: Experience) -> None:
        """Put the anchor's own state back and a fresh head on; free what the task may train."""
        if self.config.backbone == FIRST_TASK and experience.index == 1:
            self._start = _headless(self.own[0])
        self.network.load_state_dict(self._start, strict=False)
        self.network.head = self.make_head(len(experience.classes))
        self._serving = None
        self.best.forget()
        self.free(experience.index)

    def free(self, index: int) -> None:
        """Let gradients reach what task ``index`` trains, and nothing else."""
        whole = self.config.backbone == FIRST_TASK and index == 0
        own, kernels = self._own_names(), {f"{name}.weight" for name in self._kernels()}
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name not in kernels if whole else name in own)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy over the task's columns, and the penalty."""
        columns = torch.tensor(self.experience.classes, device=labels.device)
        norms = [p.norm() for p in self.network.parameters() if p.requires_grad]
        penalty = self.config.penalty * torch.stack(norms).sum()
        return cross_entropy(logits, torch.searchsorted(columns, labels)) + penalty

    def train(self, experience: Experience) -> None:
        """Train the task's part, then put it aside."""
        self.free(experience.index)  # where a run is continued, `begin` is not called
        if self.config.select_on == "valid":
            self._train_and_select(experience)
        else:
            super().train(experience)
        self.columns = list(experience.task_columns)
        self.own.append(self._part())

    def _train_and_select(self, experience: Experience) -> None:
        """Train on some of the rows and go back to the epoch that is best on the others."""
        held = held_out(experience, self.config.select_share)
        kept = experience.part((~held).nonzero().flatten())
        self.best.rows = experience.part(held.nonzero().flatten())
        super().train(kept)
        experience.images += kept.images + self.best.rows.images
        self.best.restore()

    def trained(self) -> dict[str, Tensor]:
        """What the present task may have changed, parameters and buffers."""
        names = {n for n, p in self.network.named_parameters() if p.requires_grad}
        names |= self._own_names()
        return {n: v.clone() for n, v in self.network.state_dict().items() if n in names}

    def _own_names(self) -> set[str]:
        """Names of what a task owns, parameters and buffers."""
        kernels = self._kernels()
        return {
            f"{path}.{name}"
            for path, module in self.network.named_modules()
            if isinstance(module, _BatchNorm) or path in kernels or path == "head"
            for name in module.state_dict()
        }

    def _kernels(self) -> set[str]:
        modules = self.network.named_modules()
        return {f"{path}.kernel" for path, m in modules if isinstance(m, Reprogrammed)}

    def _part(self) -> dict[str, Tensor]:
        state, own = self.network.state_dict(), self._own_names()
        return {name: value.clone() for name, value in state.items() if name in own}

    def predict(self, batch: Batch) -> Tensor:
        """Logits of the task's head at its columns; -inf elsewhere."""
        assert batch.task is not None
        self._serve(batch.task)
        own = list(self.columns[batch.task])
        logits = self.network.eval()(batch.images)
        answer = logits.new_full((len(batch), self.seen), -torch.inf)
        answer[:, own] = logits
        return answer

    def _serve(self, task: int) -> None:
        if self._serving is not self.own[task]:
            self.network.head = self.make_head(len(self.columns[task]))
            self.network.load_state_dict(self.own[task], strict=False)
            self._serving = self.own[task]

    def growth(self) -> dict[str, float]:
        """Numbers that one more task adds (its head apart), by part, and those of the anchor."""
        sizes = {"kernel": 0, "norm": 0, "statistics": 0, "anchor": 0}
        own, kernels = self._own_names(), {f"{name}.weight" for name in self._kernels()}
        parameters = {name for name, _ in self.network.named_parameters()}
        for name, value in self.network.state_dict().items():
            if name.startswith("head.") or name.endswith("num_batches_tracked"):
                continue
            kernel = name in kernels
            part = "kernel" if kernel else "norm" if name in parameters else "statistics"
            if name in own:
                sizes[part] += value.numel()
            if name in parameters and not kernel:
                sizes["anchor"] += value.numel()
        return {part: float(size) for part, size in sizes.items()}

    def costs(self) -> dict[str, float]:
        """What a task adds, in per cent of the anchor without its head; heads are averaged."""
        sizes = self.growth()
        heads = [v.numel() for own in self.own for n, v in own.items() if n.startswith("head.")]
        head = sum(heads) / max(len(self.own), 1)
        added = sizes["kernel"] + sizes["norm"] + head
        percent = 100 / sizes["anchor"]
        return {
            "growth_percent": added * percent,
            "growth_with_statistics_percent": (added + sizes["statistics"]) * percent,
            "kernel_parameters": sizes["kernel"],
            "norm_parameters": sizes["norm"],
            "mean_head_parameters": head,
        }


class BestEpoch(Stateful, SupervisedPlugin):
    """After every epoch: whether held-out rows are answered better than ever in this task.

    Attributes:
        rows: Held out.
        accuracy: The best so far; -1 before the first epoch.
        part: What trained, as that epoch left it.
    """

    transient = ("owner", "rows")
    rows: Experience

    def __init__(self, strategy: CLR) -> None:
        """Watch ``strategy``."""
        super().__init__()
        self.owner = strategy
        self.forget()

    def forget(self) -> None:
        """Begin anew, for another task."""
        self.accuracy = -1.0
        self.part: dict[str, Tensor] = {}

    def after_training_epoch(self, strategy: Any, **_: Any) -> None:
        """Score the epoch; of equal ones the first is kept, and of none at all the last."""
        accuracy = self._score() if len(self.rows) else 0.0
        if accuracy > self.accuracy or not len(self.rows):
            self.accuracy, self.part = accuracy, self.owner.trained()

    @torch.no_grad()
    def _score(self) -> float:
        network, size, right = self.owner.network.eval(), self.owner.config.batch_size, 0
        classes = torch.tensor(self.rows.classes, device=self.rows.labels.device)
        for batch in self.rows.batches(size, shuffle=False, silent=True):
            right += int((classes[network(batch.images).argmax(1)] == batch.labels).sum())
        network.train()
        return right / len(self.rows)

    def restore(self) -> None:
        """Put the best epoch back."""
        self.owner.network.load_state_dict(self.part, strict=False)
        self.forget()


def held_out(experience: Experience, share: float) -> Tensor:
    """Which rows to select on, bool [n]: drawn by the run's seed, as even as the classes allow."""
    labels, generator = experience.labels, experience.generator("held-out rows")
    order = torch.randperm(len(labels), generator=generator).to(labels.device)
    held = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    for column in experience.classes:
        rows = order[labels[order] == column]
        held[rows[: min(max(1, rows_of_share(share, len(rows))), len(rows) - 1)]] = True
    return held


class Reprogrammed(nn.Module):
    """A frozen convolution and the depthwise kernel behind it."""

    def __init__(self, conv: nn.Conv2d, side: int) -> None:
        """Put an identity kernel of ``side`` x ``side`` behind ``conv``."""
        super().__init__()
        self.conv = conv
        n = conv.out_channels
        self.kernel = nn.Conv2d(n, n, side, padding=side // 2, groups=n, bias=False).to(conv.weight)
        nn.init.dirac_(self.kernel.weight, groups=n)

    def forward(self, x: Tensor) -> Tensor:
        """[n, C, H, W] as the convolution gives it, each channel filtered."""
        return self.kernel(self.conv(x))


def _headless(part: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in part.items() if not name.startswith("head.")}


def convert(model: nn.Module, variant: Variant = "clr", side: int = 3) -> list[str]:
    """Put a kernel behind the convolutions that the variant names, in place.

    Args:
        model: Any CNN made of modules, such as torchvision's and timm's.
        variant: As in `CLRConfig`.
        side: Of the kernels; odd, so that the size of the maps stays.

    Returns:
        Names of the convolutions, in the order of the modules.
    """
    on_1x1 = {"clr": 0, "full": side, "mixed": 1}[variant]
    found: Sequence[tuple[str, nn.Module]] = list(model.named_modules())
    names = []
    for name, conv in found:
        if not isinstance(conv, nn.Conv2d):
            continue
        own = on_1x1 if conv.kernel_size == (1, 1) else side
        conv.requires_grad_(False)
        if own:
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, Reprogrammed(conv, own))
            names.append(name)
    return names
