"""Cost of a step of each of the nine methods without pretraining, against a bare PyTorch loop.

    python benchmarks/scratch_steps.py [METHOD ...] [--stem 3x3] [--images 192] [--batch-size 32]
                                       [--rounds 5] [--task 2]

A bare loop computes the same losses on a copy of the same networks and the same images, with
nothing of clgym's around it: no hooks, no checkpoints, no random generators by name. Its losses are
written here a second time. For every stage of a method's training in one task, the two take turns
within each round, the first of them by turns, too, so that other work on the machine hits both.
Printed: milliseconds of processor time per step of each, medians over rounds, and the median of the
rounds' ratios; the goal is 1.10. One thread; slim ResNet-18 on random images of 32 pixels.
"""

import argparse
import copy
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from clgym.config import build
from clgym.data.generators import seed_generators
from clgym.registry import find, load_class
from clgym.strategy import Experience, Memory, Strategy, StreamInfo

Loss = Callable[[Tensor, Tensor], Tensor]
"""Loss of images in [0, 1] and their labels."""
Bare = tuple[Sequence[Tensor], Loss, Sequence[torch.nn.Module], float]
"""What a bare loop trains, its loss, the modules in training mode, and the weight decay."""
LR = 0.01
CLASSES = 2
"""Classes of a task."""
METHODS: dict[str, dict[str, Any]] = {
    "exemplar-replay": {},
    "icarl": {},
    "wa": {"lambda_kd": 1.0},
    "bic": {"lambda_kd": 1.0, "split_ratio": 0.3},
    "podnet": {"finetune_epochs": 1},
    "expandable": {},
    "foster": {"compression_epochs": 1},
    "memo": {},
    "beef": {"fusion_epochs": 1},
}
"""Options of each method."""


# --- losses of the methods, a second time -------------------------------------------------------


def soft_targets(logits: Tensor, old: Tensor, t: float) -> Tensor:
    """Cross-entropy of softened logits of the old classes with the old network's."""
    chosen = logits[:, : old.shape[1]] / t
    return F.cross_entropy(chosen, (old / t).softmax(1))


def replayed(own: Any, stage: int) -> Bare:
    """Cross-entropy."""
    net = own.network
    return list(net.parameters()), lambda x, y: F.cross_entropy(net(x), y), [net], 2e-4


def distilled(own: Any, stage: int) -> Bare:
    """Cross-entropy, and distillation from the old network (iCaRL, WA, BiC); BiC's second stage."""
    net, old, t = own.network, own.teacher, own.config.temperature
    if stage:
        pair = list(net.corrections[-1].parameters())
        return pair, lambda x, y: F.cross_entropy(net(x).softmax(1), y), [net], 2e-4

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            target = old(x)
        logits = net(x)
        return F.cross_entropy(logits, y) + soft_targets(logits, target, t)

    return [*net.backbone.parameters(), *net.head.parameters()], loss, [net], 2e-4


def pooled(own: Any, stage: int) -> Bare:
    """NCA and the two distillations of PODNet."""
    net, old, c = own.network, own.teacher, own.config
    factor = ((own.known + CLASSES) / CLASSES) ** 0.5

    def profile(a: Tensor) -> Tensor:
        a = a * a
        return F.normalize(torch.cat([a.sum(3), a.sum(2)], 2).flatten(1))

    def loss(x: Tensor, y: Tensor) -> Tensor:
        scaled = (x - net.mean) / net.std
        with torch.no_grad():
            before = old.backbone.maps(scaled)
        maps = net.backbone.maps(scaled)
        f, g = maps[-1].mean((2, 3)), before[-1].mean((2, 3))
        proxies = torch.cat([net.head.old_weight, net.head.new_weight])
        s = (F.normalize(f) @ F.normalize(proxies).t()).view(len(x), -1, c.proxies)
        z = net.head.sigma * (s.softmax(2) * s).sum(2)
        z = z - z.max(1, keepdim=True).values
        true = z[torch.arange(len(y)), y]
        zeroed = z.masked_fill(F.one_hot(y, z.shape[1]).bool(), 0.0)
        nca = (zeroed.logsumexp(1) - true).mean()
        flat = (1 - F.cosine_similarity(f, g)).mean()
        spatial: Any = sum(
            (profile(a) - profile(b)).norm(dim=1).mean() for a, b in zip(maps, before, strict=True)
        )
        return nca + factor * (c.lambda_f * flat + c.lambda_c * spatial / len(maps))

    head = net.head
    return [*net.backbone.parameters(), head.new_weight, head.sigma], loss, [net], 5e-4


def expanded(own: Any, stage: int) -> Bare:
    """Cross-entropy of all branches, and of the newest one's auxiliary head (DER, MEMO)."""
    net, known, width = own.network, own.known, own.network.backbone.width
    *frozen, newest = net.backbone.branches
    base = net.backbone.base
    learns = list(base.parameters())

    def loss(x: Tensor, y: Tensor) -> Tensor:
        maps = base((x - net.mean) / net.std)
        with torch.set_grad_enabled(bool(learns)):
            past = [branch(maps) for branch in frozen]
        f = torch.cat([*past, newest(maps)], 1)
        coarse = (y - known + 1).clamp(min=0)
        return F.cross_entropy(net.head(f), y) + F.cross_entropy(net.aux(f[:, -width:]), coarse)

    parts = [newest, net.head, net.aux]
    return [*learns, *(p for m in parts for p in m.parameters())], loss, [base, *parts], 2e-4


def boosted(own: Any, stage: int) -> Bare:
    """FOSTER: the losses of two branches, then of the student."""
    net, student, c, known = own.network, own.student, own.config, own.known
    first, second = net.backbone.branches
    counts = torch.full((net.head.out_features,), own.counted, dtype=torch.float64)
    counts[:known] = c.memory_size // known

    def weights(beta: float) -> Tensor:
        w = (1 - beta) / (1 - beta**counts)
        return (w * len(w) / w.sum()).float()

    def boosting(x: Tensor, y: Tensor) -> Tensor:
        x = (x - net.mean) / net.std
        with torch.no_grad():
            past = first(x)
            old = net.old_head(past)
        new = second(x)
        z = net.head(torch.cat([past, new], 1))
        own_loss = F.cross_entropy(net.extra(new), y)
        return F.cross_entropy(z / divisor, y) + own_loss + soft_targets(z, old, c.temperature)

    def compression(x: Tensor, y: Tensor) -> Tensor:
        x = (x - net.mean) / net.std
        with torch.no_grad():
            z = net.head(torch.cat([first(x), second(x)], 1))
            wanted = (z / c.temperature).softmax(1) * divisor
            wanted = wanted / wanted.sum(1, keepdim=True)
        found = student.head(student.backbone.branches[0](x))
        return F.cross_entropy(found / c.temperature, wanted)

    divisor = weights(c.beta2 if stage else c.beta1)
    if stage:
        return list(student.parameters()), compression, [student], 0.0
    parts = [second, net.head, net.extra]
    return [p for m in parts for p in m.parameters()], boosting, parts, 5e-4


def energetic(own: Any, stage: int) -> Bare:
    """BEEF: expansion with sampled images, then fusion; middle branches drift, as released."""
    net, c, known = own.network, own.config, own.known
    first, *middle, newest = net.backbone.branches
    task = len(net.backbone.branches) - 1
    owner = torch.cat([torch.full((CLASSES,), s) for s in range(task)])

    def own_logits(f: Tensor) -> Tensor:
        return torch.cat([net.past(f), net.new_head(f)], 1)

    def features(x: Tensor) -> Tensor:
        with torch.no_grad():
            for branch in middle:
                branch(x)
        return newest(x)

    def sampled(x: Tensor) -> Tensor:
        newest.eval()
        x = x.flip((2, 3))
        for _ in range(3):
            x.requires_grad_()
            f = newest(x)
            p = torch.cat([own_logits(f), net.energies(f)], 1).softmax(1)
            (slope,) = torch.autograd.grad(p[:, -net.energies.out_features :].sum().log(), x)
            x = (x - 0.01 * slope + c.sampling_noise * torch.randn(x.shape)).detach()
        newest.train()
        return x

    def expansion(x: Tensor, y: Tensor) -> Tensor:
        x = (x - net.mean) / net.std
        z = own_logits(features(x))
        target = torch.where(y < known, owner[y.clamp(max=known - 1)], y - known + task)
        z = torch.cat([z[:, :task] / c.logit_alignment, z[:, task:]], 1)
        moved = features(sampled(x))
        r = torch.cat([own_logits(moved), net.energies(moved)], 1)
        mask = torch.zeros(r.shape[1], dtype=torch.bool)
        mask[target] = True
        r = torch.where(mask, 1e-9, r)
        start = task + net.new_head.out_features
        return F.cross_entropy(z, target) + c.energy_weight * F.cross_entropy(r, start + y)

    def fusion(x: Tensor, y: Tensor) -> Tensor:
        x = (x - net.mean) / net.std
        with torch.no_grad():
            past = torch.cat([branch(x) for branch in (first, *middle)], 1)
            f = newest(x)
            old, guess, new = past @ net.head.weight.t(), net.past(f), net.new_head(f)
        fused = (1 + net.alpha) * guess + net.beta
        return F.cross_entropy(torch.cat([old + fused[:, owner], new], 1), y)

    if stage:
        return [net.alpha, net.beta], fusion, [*middle, newest], 5e-4
    parts = [newest, net.past, net.new_head, net.energies]
    return [p for m in parts for p in m.parameters()], expansion, [*parts, *middle], 5e-4


BARE: dict[str, Callable[[Any, int], Bare]] = {
    "exemplar-replay": replayed,
    "icarl": distilled,
    "wa": distilled,
    "bic": distilled,
    "podnet": pooled,
    "expandable": expanded,
    "foster": boosted,
    "memo": expanded,
    "beef": energetic,
}


# --- measuring ----------------------------------------------------------------------------------


class Networks:
    """Copies of what a strategy trains and learns from, at the start of a stage."""

    def __init__(self, strategy: Any, counted: int) -> None:
        """Copy them.

        Args:
            strategy: About to train a stage.
            counted: Training images of each new class.
        """
        names = ("network", "teacher", "student")
        parts = {n: getattr(strategy, n) for n in names if getattr(strategy, n, None) is not None}
        vars(self).update(copy.deepcopy(parts))
        self.config, self.known, self.counted = strategy.config, strategy.known, counted


def prepared(bare: Bare, own: Networks) -> Loss:
    """The loss, once the modules are in their modes and the right parameters want a gradient."""
    parameters, loss, training, _ = bare
    for part in vars(own).values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    for p in parameters:
        p.requires_grad_()
    for module in training:
        module.train()
    return loss


def bare_epoch(bare: Bare, own: Networks, pixels: Tensor, labels: Tensor, batch: int) -> float:
    """Train one epoch; processor seconds."""
    loss = prepared(bare, own)
    optimizer = torch.optim.SGD(list(bare[0]), LR, 0.9, weight_decay=bare[3])
    begin = time.process_time()
    for rows in torch.randperm(len(pixels)).split(batch):
        optimizer.zero_grad()
        loss(pixels[rows].float() / 255, labels[rows]).backward()
        optimizer.step()
    return time.process_time() - begin


class Turns:
    """A strategy whose stages take turns with bare loops in one task."""

    def __init__(self, name: str, given: argparse.Namespace, bare_first: bool) -> None:
        """Set it up."""
        self.name, self.given, self.bare_first = name, given, bare_first
        self.timed = False
        kind = load_class(find("strategies", name), Strategy)
        options = {"network": "slim-resnet18", "stem": given.stem, "augment": "none"}
        options |= {"memory_size": given.images // 2, "batch_size": given.batch_size}
        options |= {"first_epochs": 1, "epochs": 1, "first_lr": LR, "lr": LR, **METHODS[name]}
        options["schedule"] = "step"
        self.strategy: Any = kind(build(kind.Config, options, name))
        info = StreamInfo(
            (3, 32, 32), "class-incremental", torch.device("cpu"), 0, (), (),
            memory=Memory(given.images // 2),
        )  # fmt: skip
        seed_generators(0, "setup")
        self.strategy.setup(info)
        self.train = self.strategy.template.train
        self.strategy.template.train = self.both
        self.seconds: list[tuple[float, float]] = []

    def both(self, *args: Any) -> None:
        """Train a stage; if it is to be timed, beside a bare loop: seconds per step of each."""
        if not self.timed:
            self.train(*args)
            return
        data = self.strategy.template.feed.experience
        own = Networks(self.strategy, self.given.images // CLASSES)
        bare = BARE[self.name](own, len(self.seconds))
        steps = -(-len(data) // self.given.batch_size)
        batch = self.given.batch_size

        def by_hand() -> float:
            return bare_epoch(bare, own, data.pixels, data.labels, batch) / steps

        def by_clgym() -> float:
            begin = time.process_time()
            self.train(*args)
            return (time.process_time() - begin) / steps

        if self.bare_first:
            bare_time, full_time = by_hand(), by_clgym()
        else:
            full_time, bare_time = by_clgym(), by_hand()
        self.seconds.append((full_time, bare_time))

    def learn(self, task: int) -> None:
        """Train one task of random images."""
        n, generator = self.given.images, torch.Generator().manual_seed(task)
        pixels = torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
        first = CLASSES * task
        labels = torch.arange(n) % CLASSES + first
        classes = tuple(range(first, first + CLASSES))
        experience = Experience(
            task, pixels, labels, classes=classes, columns=first + CLASSES, seed=0, scale=1 / 255
        )
        seed_generators(0, "train", experience=task)
        self.timed = task == self.given.task
        self.strategy.train(experience)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="*", default=list(METHODS), metavar="METHOD")
    parser.add_argument("--stem", default="3x3")
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--task", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("method           stage  clgym ms  bare ms  ratio", flush=True)
    for name in given.methods:
        rounds = []
        for _, first in zip(range(given.rounds), itertools.cycle((True, False)), strict=False):
            turns = Turns(name, given, first)
            for task in range(given.task + 1):
                turns.learn(task)
            rounds.append(turns.seconds)
        for stage, found in enumerate(zip(*rounds, strict=True)):
            full, bare = (1000 * statistics.median(part) for part in zip(*found, strict=True))
            ratio = statistics.median(a / b for a, b in found)
            print(f"{name:16} {stage:5}  {full:8.1f} {bare:8.1f}  {ratio:5.2f}", flush=True)


if __name__ == "__main__":
    main()
