"""Dynamic sparse training: each task trains a sparse part of one network, then freezes it.

Yildirim, Gok Yildirim, Sokar, Mocanu, Vanschoren, "Continual Learning with Dynamic Sparse Training:
Exploring Algorithms for Effective Model Updates", CPAL 2024 (arXiv 2308.14831). A task draws a mask
over all weights of convolutions and linear layers and trains what is on. Every so many steps the
smallest weights are pruned and as many grown elsewhere, at zero. Weights that an earlier task
ended with are shared but never changed; free ones start at zero. At test the task's mask is laid
on the merged network.

Departures from the authors' code, each with the option that brings its way back: only the task's
own columns are answered (``eval_logits all``; the gym counts the others where the scenario says
``--compete seen``); an owned weight that is pruned and grown again has its old value at once, as it
will have at test (``reference_merge``); what no mask covers (batch normalisation, biases) is each
task's own, where theirs uses the statistics of each batch, also at test (``norm batch``). The last
epoch's weights are kept, not those of the best training accuracy.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clgym.avalanche import SGDConfig, SGDStrategy
from clgym.errors import BadConfig
from clgym.models import sparse
from clgym.models.networks import Classifier
from clgym.strategy import Batch, Experience, Needs, State, StreamInfo, TrainBatch

Masks = dict[str, Tensor]


@dataclass(frozen=True)
class DSTConfig(SGDConfig):
    """Options of dynamic sparse training."""

    lr: Annotated[float, Gt(0)] = 1e-3
    """Learning rate at first."""
    epochs: Annotated[int, Ge(1)] = 20
    """Passes over the rows of each experience."""
    batch_size: Annotated[int, Ge(1)] = 64
    """Samples a step."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """What takes the steps; fresh for every task."""
    lr_drops: tuple[Annotated[float, Ge(0), Le(1)], ...] = (0.5, 0.75)
    """Shares of the epochs after which the learning rate falls tenfold."""
    density: Annotated[float, Gt(0), Le(1)] = 0.2
    """Share of the weights that a task may use: 1 - sparsity."""
    init: Literal["uniform", "erk"] = "uniform"
    """Densities of layers: all alike, or Erdos-Renyi-kernel."""
    growth: Literal["random", "unfired", "gradient", "momentum"] = "random"
    """What grows: any weight, one not yet tried, or those with the largest gradient or momentum."""
    death: Literal["magnitude", "taylor"] = "magnitude"
    """What is pruned: small weights, or those whose loss matters least to first order."""
    update_every: Annotated[int, Ge(1)] = 400
    """Steps between two changes of the mask."""
    death_rate: Annotated[float, Ge(0), Le(1)] = 0.5
    """Share pruned at first; falls by a cosine over the task."""
    death_rate_end: Annotated[float, Ge(0), Le(1)] = 0.005
    """Share pruned at the task's end."""
    norm: Literal["task", "batch"] = "task"
    """Batch normalisation: each task's own, or each batch's statistics without scale and shift."""
    eval_logits: Literal["task", "all"] = "task"
    """Columns that compete in an answer: the task's own, or all, as in the authors' code."""
    reference_merge: bool = False
    """Let owned weights that come back train as zeros, as in the authors' code."""
    fresh_init: bool = False
    """Start free weights at a fresh random initialisation instead of zero."""


class DST(SGDStrategy[DSTConfig]):
    """One network, a mask a task.

    Attributes:
        dense: The merged network: weights by name.
        owned: Entries in use by an earlier task, by name.
        masks: Final masks by task.
        own: What no mask covers, by task: parameters and buffers.
        columns: Of the logits, by task.
        mask: Of the present task, by name.
        fired: Entries that have been on in this task.
    """

    transient = ("_serving",)

    @property
    def needs(self) -> Needs:
        """Task ids, and the number of classes: the network has a fixed size."""
        return Needs(task_ids=True, total_classes=True, settings=("task-incremental",))

    def setup(self, info: StreamInfo) -> None:
        """Build the network; nothing is owned yet.

        Raises:
            BadConfig: ``reference_merge`` with weight decay, which would move owned weights.
        """
        if self.config.reference_merge and self.config.weight_decay:
            raise BadConfig(
                expected="no weight decay with reference_merge, since it moves owned weights",
                found=f"weight_decay = {self.config.weight_decay}",
                fix="Drop one of the two",
            )
        super().setup(info)
        state = self.network.state_dict()
        weights = self.weights()
        self._first = {n: v.clone() for n, v in state.items() if n not in weights}
        self.dense = {n: w.detach().clone() for n, w in weights.items()}
        self.owned = {n: torch.zeros_like(w, dtype=torch.bool) for n, w in weights.items()}
        self.masks: list[Masks] = []
        self.own: list[dict[str, Tensor]] = []
        self.columns: list[tuple[int, ...]] = []
        self.mask: Masks = {}
        self.fired: Masks = {}
        self._serving: Masks | None = None  # the mask that the network has

    def make_network(self, columns: int) -> Classifier:
        """The network, with the authors' normalisation where it is asked for."""
        network = super().make_network(columns)
        if self.config.norm == "batch":
            _replace_norms(network)
        return network

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Adam or SGD over everything."""
        if self.config.optimizer == "sgd":
            return super().make_optimizer()
        c = self.config
        return torch.optim.Adam(self.network.parameters(), c.lr, weight_decay=c.weight_decay)

    def weights(self) -> dict[str, Any]:
        """The masked weights by name: all of convolutions and linear layers, never biases."""
        return {
            f"{name}.weight": module.weight
            for name, module in self.network.named_modules()
            if isinstance(module, (nn.Conv2d, nn.Linear))
        }

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy over the task's own columns."""
        columns = torch.tensor(self.experience.classes, device=labels.device)
        return cross_entropy(logits[:, columns], torch.searchsorted(columns, labels))

    def begin(self, experience: Experience) -> None:
        """Draw the task's mask and lay it on the merged network."""
        weights = self.weights()
        shapes = [tuple(w.shape) for w in weights.values()]
        density = self.config.density
        densities = [density] * len(shapes)
        if self.config.init == "erk":
            densities = sparse.erk_densities(shapes, density)
        generator = experience.generator("mask")
        masks = {
            name: self.uniform(w, generator) < d
            for (name, w), d in zip(weights.items(), densities, strict=True)
        }
        self._serving = None
        self._start_weights(masks, first=experience.index == 0)
        self.network.load_state_dict(self._first, strict=False)
        self.mask = masks
        self.fired = {name: mask.clone() for name, mask in masks.items()}

    @torch.no_grad()
    def _start_weights(self, masks: Masks, first: bool) -> None:
        fresh: dict[str, Tensor] = {}
        if self.config.fresh_init and not first:
            fresh = dict(self.make_network(self.network.columns).state_dict())
        for name, weight in self.weights().items():
            start = self.dense[name]
            if name in fresh:
                start = torch.where(self.owned[name], start, fresh[name])
            weight.copy_(start * masks[name])

    def uniform(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Numbers in [0, 1) in the shape of ``like``; drawn on the CPU, alike on every device."""
        return torch.rand(like.shape, generator=generator).to(like.device)

    def after_experience(self, experience: Experience) -> None:
        """Merge the task's part into the network and own it."""
        self.columns = list(experience.task_columns)
        for name, weight in self.weights().items():
            new = weight.detach().clone()
            if self.masks:
                self.dense[name] = torch.where(self.owned[name], self.dense[name], new)
            else:
                self.dense[name] = new
            self.owned[name] = self.owned[name] | self.mask[name]
        self.masks.append({n: m.clone() for n, m in self.mask.items()})
        state = self.network.state_dict()
        self.own.append({n: state[n].clone() for n in self._first})

    def predict(self, batch: Batch) -> Tensor:
        """The task's part of the merged network; other tasks' columns are -inf unless asked for."""
        assert batch.task is not None
        self._serve(batch.task)
        logits = super().predict(batch)
        if self.config.eval_logits == "all":
            return logits
        own = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
        own[list(self.columns[batch.task])] = True
        return logits.masked_fill(~own, -torch.inf)

    @torch.no_grad()
    def _serve(self, task: int) -> None:
        if self._serving is self.masks[task]:
            return
        for name, weight in self.weights().items():
            weight.copy_(self.dense[name] * self.masks[task][name])
        self.network.load_state_dict(self.own[task], strict=False)
        self._serving = self.masks[task]

    def overlaps(self) -> Tensor:
        """Of the weights that task j uses, the share that task i uses too: float [tasks, tasks]."""
        pairs = [[_count(a, b) for b in self.masks] for a in self.masks]
        both = torch.tensor(pairs, dtype=torch.float64)
        return both / both.diagonal()

    def costs(self) -> dict[str, float]:
        """Share of the weights that tasks use, share that is owned, share that two tasks share."""
        total = sum(o.numel() for o in self.owned.values())
        found = {"owned_share": _count(self.owned, self.owned) / total}
        for t, masks in enumerate(self.masks):
            found[f"density_{t}"] = _count(masks, masks) / total
        if len(self.masks) > 1:
            overlaps = self.overlaps()
            n = len(overlaps)
            found["mean_overlap"] = float(overlaps.sum() - n) / (n * (n - 1))
        return found

    def observe(self, batch: TrainBatch) -> Tensor:
        """A step that leaves owned weights alone, then the mask again."""
        loss = self.loss(self.network(batch.images), batch.labels)
        self.optimizer.zero_grad()
        loss.backward()
        self._protect()
        self.optimizer.step()
        self.settle()
        return loss

    def _protect(self) -> None:
        """Zero the gradients of owned weights, whether the mask is on there or not.

        Gradients stay dense otherwise: growth looks at them where the mask is off.
        """
        if self.masks:
            for name, weight in self.weights().items():
                if weight.grad is not None:
                    weight.grad.masked_fill_(self.owned[name], 0)

    def settle(self) -> None:
        """Mask the weights again; prune and grow when it is time."""
        c, here = self.config, self.position
        self._hold()
        per_epoch = self.experience.steps(c.batch_size)
        step = here.epoch * per_epoch + here.step + 1
        if step % c.update_every == 0:
            rate = sparse.cosine_rate(step, per_epoch * c.epochs, c.death_rate, c.death_rate_end)
            self.update(self.optimizer, rate)

    @torch.no_grad()
    def _hold(self) -> None:
        """Zero off the mask; owned weights at the value they were merged with."""
        for name, weight in self.weights().items():
            if self.masks and not self.config.reference_merge:
                torch.where(self.owned[name], self.dense[name], weight, out=weight.data)
            weight.data.mul_(self.mask[name])

    @torch.no_grad()
    def update(self, optimizer: torch.optim.Optimizer, rate: float) -> None:
        """Prune all tensors, then grow all.

        What grows starts at zero, but for a weight that was pruned in this very update: it keeps
        its value, as in the authors' code, where masks are applied after growing only.

        Args:
            optimizer: Where momentum is found.
            rate: Share to prune of the weights that are on.
        """
        weights = self.weights()
        pruned = {name: self._pruned(name, w, rate) for name, w in weights.items()}
        for name, weight in weights.items():
            count = int(self.mask[name].sum()) - int(pruned[name].sum())
            self.mask[name] = self._grown(name, weight, pruned[name], count, optimizer)
            self.fired[name] |= self.mask[name]
        self._hold()

    def _pruned(self, name: str, weight: nn.Parameter, rate: float) -> Tensor:
        if self.config.death == "taylor":
            assert weight.grad is not None
            return sparse.prune_taylor(weight, weight.grad, self.mask[name], rate)
        return sparse.prune_magnitude(weight, self.mask[name], rate)

    def _grown(
        self,
        name: str,
        weight: nn.Parameter,
        mask: Tensor,
        count: int,
        optimizer: torch.optim.Optimizer,
    ) -> Tensor:
        growth = self.config.growth
        if growth == "gradient":
            assert weight.grad is not None
            return sparse.grow_scored(mask, weight.grad.abs(), count)
        if growth == "momentum":
            return sparse.grow_scored(mask, momentum(optimizer.state[weight]), count)
        generator = self.rng("growth", name)
        uniform = self.uniform(weight, generator)
        if growth == "random":
            return sparse.grow_random(mask, count, uniform)
        unfired = int((~self.fired[name]).sum())
        order = torch.randperm(unfired, generator=generator).to(mask.device)
        return sparse.grow_unfired(mask, self.fired[name], count, order, uniform)


def momentum(state: State) -> Tensor:
    """How far an optimizer is about to move each weight.

    |m| / (sqrt(v) + 1e-8) of Adam, without its correction of bias; |momentum| of SGD.
    """
    if "exp_avg" in state:
        return (state["exp_avg"] / (state["exp_avg_sq"].sqrt() + 1e-8)).abs()
    return state["momentum_buffer"].abs()


def _count(a: Masks, b: Masks) -> int:
    """Entries that are on in both."""
    return sum(int((mask & b[name]).sum()) for name, mask in a.items())


def _replace_norms(module: nn.Module) -> None:
    """Normalise by each batch's statistics, in training and at test, without scale and shift."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            width = child.num_features
            plain = nn.BatchNorm2d(width, affine=False, track_running_stats=False)
            setattr(module, name, plain)
        else:
            _replace_norms(child)
