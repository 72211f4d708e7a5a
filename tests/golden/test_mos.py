"""MOS: merging, losses, statistics, alignment, retrieval and training against the authors' code."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clgym.models import peft
from clgym.models.peft import AdapterBank, Adapters
from clgym.registry import find, load_module
from clgym.strategy import Batch, TrainBatch
from factories import stream_info

FAMILY = ("mos_",)


mos = load_module(find("strategies", "mos"))

OPTIONS = {
    "max_rounds": "rounds",
    "head_lr_factor": "head_rate",
    "temperature": "temperature",
    "jitter": "jitter",
}
"""Entry of a file -> option of the method."""

Make = Callable[..., Any]


@pytest.fixture
def make(backbone_name: Any, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes the strategy that a file describes."""

    def made(golden: Any, total: int, vit: Any = None, **config: Any) -> Any:
        """On the ViT of the file ``vit``, else on a random one with the file's width and depth."""
        monkeypatch.setattr(peft, "SCALE", golden.number("adapter_scale", peft.SCALE))
        defaults = mos.MosConfig()
        for key, option in OPTIONS.items():
            usual = getattr(defaults, option)
            config.setdefault(option, type(usual)(golden.number(key, usual)))
        name, size, channels = random_vit(golden), 1, 3
        if vit is not None:
            name, size = backbone_name(vit), int(vit["vit_config"][0])
            channels = vit["vit.patch_embed.proj.weight"].shape[1]
        rest = {"image_size": size, "fit": "stretch", "dropout": 0.0, "rank": rank_of(golden)}
        strategy = mos.Mos(mos.MosConfig(backbone=name, **{**rest, **config}))
        strategy.setup(stream_info((channels, size, size), total_columns=total))
        return strategy

    return made


def random_vit(golden: Any) -> str:
    """The smallest ViT whose features are as wide as the file's: nothing else of it is used."""
    adapters = [v for key, v in golden.items() if key.endswith("up_proj.bias")]
    widths = {v.shape[-1] for k, v in golden.items() if k.startswith(("features", "class_means"))}
    (width,) = {len(v) for v in adapters} | widths
    depth = max((golden.count(f"{key.split('.')[0]}.block") for key in golden), default=0)
    shape = f"img_size=1,patch_size=1,embed_dim={width},depth={depth or 1},num_heads=1"
    return f"vit_tiny_patch16_224[{shape}]@random"


def rank_of(golden: Any) -> int:
    """Of the file's adapters; 1 where it has none and none is used."""
    return next((len(v) for key, v in golden.items() if key.endswith("down_proj.bias")), 1)


def close(found: Any, wanted: np.ndarray, share: float = 1e-4) -> None:
    found = found.detach().numpy() if isinstance(found, Tensor) else np.asarray(found)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=share * np.abs(wanted).max())


def adapter_state(golden: Any, prefix: str) -> dict[str, Tensor]:
    """``block0.down_proj.weight`` becomes ``down.0.weight``."""
    state = {}
    for key, value in golden.group(f"{prefix}.").items():
        if key.startswith("block"):
            block, layer, kind = key.split(".")
            name = f"{layer.removesuffix('_proj')}.{block.removeprefix('block')}.{kind}"
            state[name] = torch.from_numpy(value)
    return state


def fill_bank(strategy: Any, golden: Any, bank: AdapterBank) -> None:
    adapters = Adapters(strategy.backbone.model, strategy.config.rank)
    for task in range(golden.count("task")):
        adapters.load_state_dict(adapter_state(golden, f"task{task}"))
        bank.add(adapters)


@pytest.mark.golden("mos_merge*")
def test_merge(golden, make: Make) -> None:
    strategy = make(golden, 1, merge_rate=float(golden["alpha"]))
    fill_bank(strategy, golden, strategy.bank)
    strategy.current.load_state_dict(adapter_state(golden, "current"))
    strategy.merge()
    for key, wanted in adapter_state(golden, "merged_once").items():
        close(strategy.current.state_dict()[key], wanted.numpy())
    for _ in range(golden.count("current.block")):
        strategy.merge()
    for key, wanted in adapter_state(golden, "merged_1_plus_depth_times").items():
        close(strategy.current.state_dict()[key], wanted.numpy())


@pytest.mark.golden("mos_loss*")
def test_loss(golden, make: Make) -> None:
    known, total = int(golden["n_known"]), int(golden["n_total"])
    features, logits, targets = (
        torch.from_numpy(golden[k]) for k in ("features", "logits_all", "targets")
    )
    columns = torch.arange(known, total)

    def loss(repulsion: float, seen: int) -> float:
        strategy = make(golden, logits.shape[1], repulsion=repulsion)
        strategy.means[:known] = torch.from_numpy(golden["class_means"])
        strategy.seen = seen
        return float(strategy.loss(features, logits, targets, columns))

    reg, entropy = float(golden["reg"]), loss(0.0, known)
    assert entropy == pytest.approx(float(golden["masked_ce"]), rel=1e-5)
    assert loss(reg, known) == pytest.approx(float(golden["total_with_means"]), rel=1e-5)
    without, with_means = loss(reg, 0) - entropy, loss(reg, known) - entropy
    assert without == pytest.approx(float(golden["reg_term_without_means"]), rel=1e-4)
    assert with_means == pytest.approx(float(golden["reg_term_with_means"]), rel=1e-4)


@pytest.mark.golden("mos_stats*")
def test_statistics(golden, make: Make) -> None:
    for kind in ("covariance", "variance"):
        strategy = make(golden, golden.count("features_class"), statistics=kind)
        for key, features in golden.group("features_class").items():
            mean, spread = strategy.moments(torch.from_numpy(features))
            close(mean, golden[f"mean_class{key}"])
            close(spread, golden[f"{kind}_class{key}"])


@pytest.mark.golden("mos_align_*")
def test_alignment(golden, make: Make) -> None:
    seen, step = int(golden["n_classes_seen"]), int(golden["batch_size_per_step"])
    assert step == int(golden["samples_per_class"])
    strategy = make(
        golden,
        len(golden["head_bias_before"]),
        batch_size=step // mos.MosConfig().align_batches,
        align_epochs=int(golden["epochs"]),
        align_lr=float(golden["ca_lr"]),
        momentum=float(golden["momentum"]),
        weight_decay=float(golden["weight_decay"]),
    )
    strategy.seen = seen
    strategy.spreads[:] = torch.eye(strategy.means.shape[1])
    with torch.no_grad():
        strategy.head.weight.copy_(torch.from_numpy(golden["head_weight_before"]))
        strategy.head.bias.copy_(torch.from_numpy(golden["head_bias_before"]))
    samples, orders = (torch.from_numpy(golden[k]) for k in ("samples", "permutations"))
    strategy.draw = lambda experience, epoch, *rest: (samples[epoch], orders[epoch])
    experience = Given([], 1, seen)
    strategy.align(experience)
    np.testing.assert_allclose(experience.losses, golden["losses"], rtol=1e-4)
    for kind in ("weight", "bias"):
        before, wanted = golden[f"head_{kind}_before"], golden[f"head_{kind}_after"]
        moved(getattr(strategy.head, kind), wanted, before)


def test_draws_have_the_stored_moments(make: Make, written: Any) -> None:
    width, classes, count = 12, 2, 20000
    strategy = make(written("moments", features=np.zeros((0, width))), classes)
    root = torch.randn(width, width, generator=torch.Generator().manual_seed(0)) / 4
    strategy.means[:], strategy.seen = 3.0, classes
    strategy.spreads[:] = root @ root.T + 0.01 * torch.eye(width)
    samples, order = strategy.draw(Given([], 1, classes), 0, count, strategy.roots())
    assert sorted(order.tolist()) == list(range(classes * count))
    close(samples[1].mean(0), np.full(width, 3.0), 0.01)
    close(torch.cov(samples[1].T), strategy.spreads[1].numpy(), 0.05)


@pytest.mark.golden("mos_retrieval*")
def test_retrieval(golden, make: Make) -> None:
    size, tasks = int(golden["classes_per_task"]), int(golden["n_tasks"])
    strategy = make(golden, len(golden["head_bias"]), golden)
    fill_bank(strategy, golden, strategy.bank)
    strategy.seen = size * tasks
    strategy.task_of = torch.arange(tasks).repeat_interleave(size)
    strategy.prototypes = torch.from_numpy(golden["prototype_weight"])
    with torch.no_grad():
        strategy.head.weight.copy_(torch.from_numpy(golden["head_weight"]))
        strategy.head.bias.copy_(torch.from_numpy(golden["head_bias"]))
        x = torch.from_numpy(golden["x"])
        close(strategy.backbone.model(x), golden["features_no_adapter"])
        for task in range(tasks):
            through = strategy.stored(x, torch.full((len(x),), task))
            close(through, golden["features_per_task"][:, task])
        guess, refined, visited = strategy.retrieve(x)
        scores = strategy.predict(Batch(x))
    close(guess, golden["prototype_logits"])
    first = strategy.task_of[guess.argmax(1)].numpy()
    np.testing.assert_array_equal(first, golden["initial_task"])
    np.testing.assert_array_equal(visited.numpy(), golden["visited_adapters"])
    close(refined, golden["refined_logits"])
    close(scores, golden["ensemble_scores"])
    np.testing.assert_array_equal(scores.argmax(1).numpy(), golden["top1_ensemble"])
    np.testing.assert_array_equal(refined.argmax(1).numpy(), golden["top1_no_ensemble"])
    best = scores.topk(golden["top5_ensemble"].shape[1]).indices
    np.testing.assert_array_equal(best.numpy(), golden["top5_ensemble"])


@pytest.mark.golden("mos_released_drift*")
def test_the_released_code_drifts(golden, make: Make) -> None:
    source = golden.sibling("mos_retrieval")
    total, rate = len(source["head_bias"]), float(golden["alpha"])
    strategy = make(source, total, source, merge="released", merge_rate=rate)
    fill_bank(strategy, source, strategy.bank)
    fill_bank(strategy, source, strategy.unmoved)
    x, tasks = torch.from_numpy(golden["x"]), len(strategy.bank)
    calls = golden.count("call")
    for call in range(calls):
        with torch.no_grad():
            found = strategy.all_features(x)
        for task in range(tasks):
            close(found[:, task], golden[f"call{call}_task{task}_features"])
    for task in range(tasks):
        for key, wanted in adapter_state(golden, f"after_{calls}_calls_task{task}").items():
            close(strategy.bank.tensors[key][task], wanted.numpy())


class Given:
    """An experience whose batches are the file's, in order, in every pass."""

    single_pass, task = False, None

    def __init__(self, given: list[TrainBatch], index: int, columns: int, size: int = 0) -> None:
        self.given, self.index, self.columns = given, index, columns
        self.classes = tuple(range(columns - size, columns))
        self.losses: list[float] = []
        if given:
            self.pixels = torch.cat([batch.images for batch in given])
            self.labels = torch.cat([batch.labels for batch in given])

    def __len__(self) -> int:
        return sum(map(len, self.given))

    def to_float(self, pixels: Tensor) -> Tensor:
        return pixels

    def steps(self, size: int) -> int:
        return len(self.given)

    def batches(self, size: int, **_: Any) -> Iterator[TrainBatch]:
        yield from self.given

    def generator(self, *name: str, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(epoch)

    @property
    def loss(self) -> float:
        """Of the last step, as a strategy sets it."""
        return self.losses[-1]

    @loss.setter
    def loss(self, loss: Tensor) -> None:
        self.losses.append(float(loss))

    def report(self, **event: Any) -> None:
        if "loss" in event:
            self.losses.append(event["loss"])

    def safe_point(self) -> None: ...


def moved(found: Tensor, wanted: np.ndarray, initial: np.ndarray) -> None:
    """Within a thousandth of the greatest movement."""
    atol = 1e-3 * np.abs(wanted - initial).max()
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=0, atol=atol)


@pytest.mark.golden("mos_train_*")
def test_training(golden, make: Make) -> None:
    inputs = golden.sibling("mos_train_per_step")
    strategy = make(
        golden,
        len(golden["initial.head.bias"]),
        inputs,
        merge=golden.name.removeprefix("mos_train_"),
        merge_rate=float(golden["alpha"]),
        repulsion=float(golden["reg"]),
        lr=float(golden["init_lr"]),
        momentum=float(golden["momentum"]),
        weight_decay=float(golden["weight_decay"]),
        epochs=int(golden["epochs"]),
        align_epochs=0,
    )
    strategy.current.load_state_dict(adapter_state(golden, "initial"))
    before = {kind: golden[f"initial.head.{kind}"] for kind in ("weight", "bias")}
    strategy.head.load_state_dict({k: torch.from_numpy(v) for k, v in before.items()})
    initial = adapter_state(golden, "initial")
    size = int(golden["classes_per_task"])
    for task in range(golden.count("losses_task")):
        count = inputs.count(f"task{task}_x_")
        names = [f"task{task}_{{}}_{i}".format for i in range(count)]
        given = [
            TrainBatch(torch.from_numpy(inputs[name("x")]), torch.from_numpy(inputs[name("y")]))
            for name in names
        ]
        experience = Given(given, task, size * (task + 1), size)
        if strategy.released:
            # The file's class means were taken while nothing drifts: they are given, not compared.
            strategy.fit(experience)
            strategy.store()
            strategy.seen = experience.columns
            for column in experience.classes:
                strategy.means[column] = torch.from_numpy(golden[f"class_mean_{column}"])
        else:
            strategy.train(experience)
        np.testing.assert_allclose(experience.losses, golden[f"losses_task{task}"], rtol=2e-4)
        for key, wanted in adapter_state(golden, f"stored_task{task}").items():
            moved(strategy.bank.tensors[key][task], wanted.numpy(), initial[key].numpy())
        for kind, start in before.items():
            wanted = golden[f"head.{kind}_after_task{task}"]
            moved(getattr(strategy.head, kind), wanted, start)
        for column in experience.classes:
            close(strategy.means[column], golden[f"class_mean_{column}"])


@pytest.mark.parametrize("seed", range(4))
def test_files_of_other_sizes(seed: int, oracles: Any, written: Any, make: Make) -> None:
    rng = np.random.default_rng(seed)
    test_merge(written("mos_merge", **oracles.mos_merge(rng)), make)
    test_loss(written("mos_loss", **oracles.mos_loss(rng)), make)
    test_statistics(written("mos_stats", **oracles.mos_stats(rng)), make)
    test_retrieval(written("mos_retrieval", **oracles.mos_retrieval(rng)), make)
    test_alignment(written("mos_align", **oracles.mos_align(rng)), make)
