"""MOS: an adapter a task, merged while it is trained; every image finds its adapter at test time.

Sun, Zhou, Zhao, Gan, Zhan, Ye, "MOS: Model Surgery for Pre-Trained Model-Based Class-Incremental
Learning", AAAI 2025, https://arxiv.org/abs/2412.09441; code sun-hailong/AAAI25-MOS 8d5e07c. In
experience t, on a frozen ViT:

1. Train the working adapter and a linear head: cross-entropy over this experience's classes, plus
   0.1 times a term that pushes features and the stored class means apart. After every step the
   adapter is pulled by 0.1 towards the mean of the stored ones. It is never begun anew.
2. Store a copy of it; then mean and covariance of every new class through it.
3. From the second experience on, train the head on draws from these Gaussians of all classes.
4. Prototypes of the new classes, through the first adapter.

An image goes through the first adapter; the nearest prototype's task names the next one, whose
logits name another, until the task stays or the last of ``--rounds`` has been asked. Only adapters
that an image visits are computed. Its last logits and the prototypes' decide together.

``merge=per_step`` is the algorithm as it is named. ``released`` does what the released code does on
top: the merge writes into the adapters inside every block of every forward pass, at test time too,
so that answers depend on batches and on how often one evaluates.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clgym.models.fitting import SessionTraining, TrainedConfig
from clgym.models.heads import cosine_logits
from clgym.models.peft import AdapterBank, Adapters
from clgym.models.pretrained import PretrainedStrategy
from clgym.models.training import set_rates
from clgym.strategy import Batch, Experience, Needs, StreamInfo, TrainBatch

SPACE = {
    "epochs": [5, 10, 20],
    "lr": [0.01, 0.03, 0.05],
    "weight_decay": [0.0005, 0.005],
    "merge_rate": [0.05, 0.1, 0.2],
}


@dataclass(frozen=True)
class MosConfig(TrainedConfig):
    """Options of `Mos`; the defaults are the authors' for CIFAR-100."""

    rank: Annotated[int, Ge(1)] = 16
    """Width of an adapter's bottleneck."""
    lr: Annotated[float, Gt(0)] = 0.03
    """Learning rate of the adapter at the beginning of a session."""
    head_rate: Annotated[float, Gt(0)] = 0.1
    """Learning rate of the head as a share of the adapter's."""
    dropout: Annotated[float, Ge(0), Le(1)] = 0.1
    """Dropout inside adapters, in training."""
    repulsion: Annotated[float, Ge(0)] = 0.1
    """Weight of the term that pushes features and class means apart."""
    temperature: Annotated[float, Gt(0)] = 0.8
    """Divisor of the similarities in that term."""
    merge: Literal["per_step", "released"] = "per_step"
    """per_step: merge after each optimizer step; released: also inside every forward pass."""
    merge_rate: Annotated[float, Ge(0), Le(1)] = 0.1
    """How far a merge goes towards the mean of the stored adapters."""
    statistics: Literal["covariance", "variance"] = "covariance"
    """What is kept of a class's spread; variance for classes of very few images."""
    jitter: Annotated[float, Gt(0)] = 1e-4
    """Value added to every variance of a class, so that its covariance can be inverted."""
    align_epochs: Annotated[int, Ge(0)] = 30
    """Passes of the head's alignment, each over fresh draws."""
    align_lr: Annotated[float, Gt(0)] = 0.005
    """Learning rate of the alignment."""
    align_batches: Annotated[int, Ge(1)] = 5
    """Draws of every class per pass, and size of a step, in multiples of batch_size."""
    rounds: Annotated[int, Ge(1)] = 4
    """Maximum number of adapters that an image asks for."""
    ensemble: bool = True
    """Let the prototypes decide together with the head."""


class Mos(PretrainedStrategy[MosConfig]):
    """Adapters per task with retrieval.

    Attributes:
        current: The working adapter.
        bank: The stored ones, in order.
        unmoved: With ``released`` the stored ones as they were stored; towards their mean the
            others drift.
        head: Linear, for all classes of the stream.
        prototypes: float32 [total, d], mean features through the first adapter.
        means, spreads: Of the classes' features through their task's adapter: float32 [total, d],
            and [total, d, d], or [total, d] for variances.
        task_of: int64 [total], the adapter of each class; -1 until it has come.
        seen: Classes that have come.
    """

    CHECK_CONFIG: ClassVar[dict[str, Any]] = {
        "backbone": "vit_tiny_patch16_224[img_size=8,patch_size=4,embed_dim=16,depth=1,num_heads=2]"
        "@random",
        "image_size": 8,
        "fit": "stretch",
        "rank": 4,
        "epochs": 1,
        "align_epochs": 1,
    }

    @property
    def needs(self) -> Needs:
        """The backbone, all classes in advance (the head has a row for each), statistics."""
        return Needs(
            backbone=self.frozen,
            total_classes=True,
            rereads=True,
            settings=("class-incremental", "task-incremental"),
        )

    def setup(self, info: StreamInfo) -> None:
        """Make adapter and head; their weights come from torch's global generator."""
        super().setup(info)
        assert info.total_columns is not None
        device, total, width = info.device, info.total_columns, self.backbone.width
        vit = self.backbone.model
        self.current = Adapters(vit, self.config.rank, self.config.dropout).to(device).eval()
        self.head = nn.Linear(width, total).to(device)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.bank, self.unmoved = AdapterBank(), AdapterBank()
        self.prototypes = torch.zeros(total, width, device=device)
        self.means = torch.zeros(total, width, device=device)
        spread = (width, width) if self.config.statistics == "covariance" else (width,)
        self.spreads = torch.zeros(total, *spread, device=device)
        self.task_of = torch.full((total,), -1, device=device)
        self.seen = 0
        self.training = SessionTraining(self.config)

    @property
    def released(self) -> bool:
        """Whether to do as the released code does."""
        return self.config.merge == "released"

    def train(self, experience: Experience) -> None:
        """Train, store, measure, align; see the file's docstring."""
        self.fit(experience)
        self.store()
        self.measure(experience)
        if len(self.bank) > 1:
            self.align(experience)

    # --- 1: training ----------------------------------------------------------------------------

    def fit(self, experience: Experience) -> None:
        """Train the working adapter and the head."""
        c = self.config
        trained = [
            {"params": list(self.current.parameters()), "lr": c.lr},
            {"params": list(self.head.parameters()), "lr": c.head_rate * c.lr},
        ]
        columns = torch.tensor(experience.classes, device=self.info.device)

        def loss(batch: TrainBatch) -> Tensor:
            features = self.working(self.backbone.normalised(batch.images))
            return self.loss(features, self.head(features), batch.labels, columns)

        self.current.train()
        self.training.run(experience, trained, loss, self.merge)
        self.current.eval()

    def loss(self, features: Tensor, logits: Tensor, labels: Tensor, columns: Tensor) -> Tensor:
        """Cross-entropy over ``columns``, and the repulsion of features [n, d] and class means.

        R = CE(M M^T / temperature, own row), M = [means of classes of earlier experiences;
        features].
        """
        inside = torch.searchsorted(columns, labels)
        stacked = torch.cat([self.means[: self.seen], features])
        similar = stacked @ stacked.T / self.config.temperature
        rows = torch.arange(len(stacked), device=stacked.device)
        apart = cross_entropy(similar, rows)
        return cross_entropy(logits[:, columns], inside) + self.config.repulsion * apart

    def merge(self) -> None:
        """Pull the working adapter towards the plain mean of the stored ones."""
        if len(self.bank):
            self.current.pull(self._stored_mean(len(self.bank)), self.config.merge_rate)

    def _stored_mean(self, count: int) -> dict[str, Tensor]:
        return (self.unmoved if self.released else self.bank).mean(count)

    def working(self, images: Tensor) -> Tensor:
        """Features [n, d] through the working adapter, which drifts if ``released``."""
        if self.released:
            return self.drifting(images, self.current, len(self.bank))
        with self.current.on(self.backbone.model):
            return self.backbone.model(images)

    def drifting(self, images: Tensor, adapters: Adapters, earlier: int) -> Tensor:
        """Features as the released code makes them: every block first merges all of ``adapters``.

        Args:
            images: As the network is fed.
            adapters: Changed in place.
            earlier: How many stored adapters it is pulled towards.
        """
        if not earlier:
            with adapters.on(self.backbone.model):
                return self.backbone.model(images)
        mean, rate = self._stored_mean(earlier), self.config.merge_rate

        def pull(module: nn.Module, args: Any) -> None:
            adapters.pull(mean, rate)

        pulls = [b.register_forward_pre_hook(pull) for b in self.backbone.model.blocks]
        try:
            with adapters.on(self.backbone.model):
                return self.backbone.model(images)
        finally:
            for handle in pulls:
                handle.remove()

    # --- 2 and 4: statistics and prototypes -----------------------------------------------------

    def store(self) -> None:
        """Keep a copy of the working adapter."""
        self.bank.add(self.current)
        if self.released:
            self.unmoved.add(self.current)

    @torch.no_grad()
    def measure(self, experience: Experience) -> None:
        """Mean, spread and prototype of the experience's classes."""
        last = len(self.bank) - 1
        # Class by class, as in the released code, where every batch moves the adapter.
        for column in experience.classes:
            images = experience.to_float(experience.pixels[experience.labels == column])
            own, first = [], []
            for part in images.split(self.config.batch_size):
                fed = self.backbone.prepare(part)
                own.append(self.working(fed))
                first.append(own[-1] if last == 0 else self._prototype_features(fed))
            self.means[column], self.spreads[column] = self.moments(torch.cat(own))
            self.prototypes[column] = torch.cat(first).mean(0)
            self.task_of[column] = last
        self.seen = experience.columns

    def _prototype_features(self, images: Tensor) -> Tensor:
        if not self.released:
            return self.stored(images, torch.zeros(len(images), dtype=torch.long))
        # The release is still in training mode after the alignment: dropout is on.
        adapters = self._taken_out(0).train()
        with adapters.on(self.backbone.model):
            return self.backbone.model(images)

    def moments(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and unbiased covariance (or variances) of features [n, d], with the jitter."""
        mean = features.mean(0)
        centred = (features - mean).double()
        if self.config.statistics == "variance":
            spread = centred.square().sum(0) / max(len(features) - 1, 1) + self.config.jitter
        else:
            spread = centred.T @ centred / max(len(features) - 1, 1)
            spread.diagonal().add_(self.config.jitter)
        return mean, spread.to(features.dtype)

    # --- 3: alignment ---------------------------------------------------------------------------

    def align(self, experience: Experience) -> None:
        """Train the head alone on draws from all classes' Gaussians."""
        c, roots = self.config, self.roots()
        step = c.align_batches * c.batch_size
        optimizer = torch.optim.SGD(
            self.head.parameters(), c.align_lr, c.momentum, weight_decay=c.weight_decay
        )
        for epoch in range(c.align_epochs):
            set_rates(optimizer, [c.align_lr], epoch / c.align_epochs)
            samples, order = self.draw(experience, epoch, step, roots)
            labels = torch.arange(len(samples), device=samples.device).repeat_interleave(step)
            for part in order.split(step):
                logits = self.head(samples.flatten(0, 1)[part])[:, : self.seen]
                loss = cross_entropy(logits, labels[part])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                experience.report(loss=float(loss.detach()))

    def roots(self) -> Tensor:
        """Of the seen classes' spreads: Cholesky factors, or deviations."""
        spreads = self.spreads[: self.seen]
        if self.config.statistics == "variance":
            return spreads.sqrt()
        return torch.linalg.cholesky(spreads.double()).to(spreads)

    def draw(
        self, experience: Experience, epoch: int, count: int, roots: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Fresh vectors of every class seen [seen, count, d], and an order of them all."""
        generator = experience.generator("vectors of the classes", epoch=epoch)
        shape = (self.seen, count, self.means.shape[1])
        noise = torch.randn(shape, generator=generator).to(self.means)
        full = self.config.statistics == "covariance"
        spread = noise @ roots.transpose(1, 2) if full else noise * roots[:, None]
        order = torch.randperm(self.seen * count, generator=generator)
        return self.means[: self.seen, None] + spread, order.to(self.means.device)

    # --- answering ------------------------------------------------------------------------------

    def stored(self, images: Tensor, which: Tensor) -> Tensor:
        """Features [n, d], image i through stored adapter ``which[i]``."""
        with self.bank.on(self.backbone.model, which.to(images.device)):
            return self.backbone.model(images)

    def _taken_out(self, number: int) -> Adapters:
        """A module with the values of one stored adapter."""
        adapters = Adapters(self.backbone.model, self.config.rank, self.config.dropout)
        adapters = adapters.to(self.info.device).eval()
        self.bank.copy_to(adapters, number)
        return adapters

    def all_features(self, images: Tensor) -> Tensor:
        """Features [n, stored, d] as the release makes them: each adapter drifts meanwhile."""
        found = []
        for number in range(len(self.bank)):
            adapters = self._taken_out(number)
            found.append(self.drifting(images, adapters, number))
            self.bank.replace(number, adapters)
        return torch.stack(found, dim=1)

    def retrieve(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Ask adapters until the task stays.

        Args:
            images: As the network is fed, [n, ...].

        Returns:
            Logits of the prototypes and of the last adapter asked, both [n, seen], and the
            adapters asked in order, int64 [n, rounds], -1 where none was needed.
        """
        count, every = len(images), torch.arange(len(images), device=images.device)
        visited = torch.full((count, self.config.rounds), -1, device=images.device)
        if self.released:
            found = self.all_features(images)
            have = torch.ones(found.shape[:2], dtype=torch.bool, device=images.device)
        else:
            start = self.stored(images, torch.zeros(count, dtype=torch.long))
            found = start.new_zeros(count, len(self.bank), start.shape[1])
            found[:, 0] = start
            have = torch.zeros(found.shape[:2], dtype=torch.bool, device=images.device)
            have[:, 0] = True
        guess = cosine_logits(found[:, 0], self.prototypes[: self.seen])
        task = self.task_of[guess.argmax(1)]
        refined, active = torch.empty_like(guess), every
        for step in range(self.config.rounds):
            asked = task[active]
            visited[active, step] = asked
            due = active[~have[active, asked]]
            if len(due):
                found[due, task[due]] = self.stored(images[due], task[due])
                have[due, task[due]] = True
            refined[active] = self.head(found[active, asked])[:, : self.seen]
            task[active] = self.task_of[refined[active].argmax(1)]
            active = active[task[active] != asked]
            if not len(active):
                break
        return guess, refined, visited

    def predict(self, batch: Batch) -> Tensor:
        """Scores [n, columns]: softmax of the head plus softmax of b times the prototypes' cosine.

        b is the number of experiences seen.
        """
        guess, refined, _ = self.retrieve(self.backbone.prepare(batch.images))
        if not self.config.ensemble:
            return refined
        return refined.softmax(1) + (len(self.bank) * guess).softmax(1)
