"""MOS: merging, losses, statistics, alignment, retrieval and training against the authors' code."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from clgym.models.peft import AdapterBank, Adapters
from clgym.registry import find, load_class
from clgym.strategy import Batch, Strategy, StreamInfo

FAMILY = ("mos_",)


def make(folder: Path, golden: Any = None, total: int = 12, **config: Any) -> Any:
    """The strategy on the vectors' tiny ViT, else on a random one of the same size."""
    size, patch, width, depth, heads = 32, 8, 32, 2, 4
    weights = "random"
    if golden is not None:
        size, patch, width, depth, heads = golden["vit_config"].tolist()
        weights = str(folder / "vit.safetensors")
        vit = {k: torch.from_numpy(v) for k, v in golden.group("vit.").items()}
        save_file(vit, weights)
    shape = f"img_size={size},patch_size={patch},embed_dim={width},depth={depth},num_heads={heads}"
    cls = load_class(find("strategies", "mos"), Strategy)
    name = f"vit_tiny_patch16_224[{shape}]@{weights}"
    rest: dict[str, Any] = {"image_size": size, "fit": "stretch", "dropout": 0.0, "rank": 6}
    strategy = cls(cls.Config(backbone=name, **{**rest, **config}))
    device, images = torch.device("cpu"), (3, size, size)
    strategy.setup(StreamInfo(images, "class-incremental", device, 0, (0.0,), (1.0,), total))
    return strategy


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
    tasks = sorted({int(k[4:].split(".")[0]) for k in golden if k.startswith("task") and ".b" in k})
    adapters = Adapters(strategy.backbone.model, strategy.config.rank)
    for task in tasks:
        adapters.load_state_dict(adapter_state(golden, f"task{task}"))
        bank.add(adapters)


@pytest.mark.golden("mos_merge*")
def test_merge(golden, tmp_path: Path) -> None:
    strategy = make(tmp_path, merge_rate=float(golden["alpha"]))
    fill_bank(strategy, golden, strategy.bank)
    strategy.current.load_state_dict(adapter_state(golden, "current"))
    strategy.merge()
    for key, wanted in adapter_state(golden, "merged_once").items():
        close(strategy.current.state_dict()[key], wanted.numpy())
    for _ in range(int(golden["depth"])):
        strategy.merge()
    for key, wanted in adapter_state(golden, "merged_1_plus_depth_times").items():
        close(strategy.current.state_dict()[key], wanted.numpy())


@pytest.mark.golden("mos_loss*")
def test_loss(golden, tmp_path: Path) -> None:
    known, total = int(golden["n_known"]), int(golden["n_total"])
    features, logits, targets = (
        torch.from_numpy(golden[k]) for k in ("features", "logits_all", "targets")
    )
    columns = torch.arange(known, total)

    def loss(repulsion: float, seen: int) -> float:
        strategy = make(tmp_path, repulsion=repulsion)
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
def test_statistics(golden, tmp_path: Path) -> None:
    for kind in ("covariance", "variance"):
        strategy = make(tmp_path, statistics=kind)
        for key, features in golden.group("features_class").items():
            mean, spread = strategy.moments(torch.from_numpy(features))
            close(mean, golden[f"mean_class{key}"])
            close(spread, golden[f"{kind}_class{key}"])


@pytest.mark.golden("mos_align_*")
def test_alignment(golden, tmp_path: Path) -> None:
    seen, step = int(golden["n_classes_seen"]), int(golden["batch_size_per_step"])
    assert step == int(golden["samples_per_class"])
    strategy = make(
        tmp_path,
        batch_size=step // 5,
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


def test_draws_have_the_stored_moments(tmp_path: Path) -> None:
    strategy = make(tmp_path)
    root = torch.randn(32, 32, generator=torch.Generator().manual_seed(0)) / 6
    strategy.means[:2], strategy.seen = 3.0, 2
    strategy.spreads[:2] = root @ root.T + 0.01 * torch.eye(32)
    samples, order = strategy.draw(Given([], 1, 2), 0, 20000, strategy.roots())
    assert sorted(order.tolist()) == list(range(40000))
    close(samples[1].mean(0), np.full(32, 3.0), 0.01)
    close(torch.cov(samples[1].T), strategy.spreads[1].numpy(), 0.05)


@pytest.mark.golden("mos_retrieval*")
def test_retrieval(golden, tmp_path: Path) -> None:
    strategy = make(tmp_path, golden)
    fill_bank(strategy, golden, strategy.bank)
    size, tasks = int(golden["classes_per_task"]), int(golden["n_tasks"])
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
def test_the_released_code_drifts(golden, tmp_path: Path) -> None:
    source = golden.sibling("mos_retrieval")
    strategy = make(tmp_path, source, merge="released", merge_rate=float(golden["alpha"]))
    fill_bank(strategy, source, strategy.bank)
    fill_bank(strategy, source, strategy.unmoved)
    x, tasks = torch.from_numpy(golden["x"]), len(strategy.bank)
    calls = 1 + max(int(k[4 : k.index("_")]) for k in golden if k.startswith("call"))
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

    def __init__(self, given: list[Batch], index: int, columns: int, size: int = 0) -> None:
        self.given, self.index, self.columns = given, index, columns
        self.classes = tuple(range(columns - size, columns))
        self.losses: list[float] = []
        if given:
            self.pixels = torch.cat([batch.images for batch in given])
            self.labels = torch.cat([batch.labels for batch in given if batch.labels is not None])

    def __len__(self) -> int:
        return sum(map(len, self.given))

    def to_float(self, pixels: Tensor) -> Tensor:
        return pixels

    def steps(self, size: int) -> int:
        return len(self.given)

    def batches(self, size: int, **_: Any) -> Iterator[Batch]:
        yield from self.given

    def generator(self, *key: int) -> torch.Generator:
        return torch.Generator().manual_seed(abs(hash(key)) % 2**31)

    def report(self, **event: Any) -> None:
        if "loss" in event:
            self.losses.append(event["loss"])

    def safe_point(self) -> None: ...


def moved(found: Tensor, wanted: np.ndarray, initial: np.ndarray) -> None:
    """Within a thousandth of the greatest movement."""
    atol = 1e-3 * np.abs(wanted - initial).max()
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=0, atol=atol)


@pytest.mark.golden("mos_train_*")
def test_training(golden, tmp_path: Path) -> None:
    inputs = golden.sibling("mos_train_per_step")
    strategy = make(
        tmp_path,
        inputs,
        len(golden["initial.head.bias"]),
        merge=golden.name.removeprefix("mos_train_"),
        rank=len(golden["initial.block0.down_proj.bias"]),
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
    tasks = sum(key.startswith("losses_task") for key in golden)
    for task in range(tasks):
        count = sum(key.startswith(f"task{task}_x_") for key in inputs)
        names = [f"task{task}_{{}}_{i}".format for i in range(count)]
        given = [
            Batch(torch.from_numpy(inputs[name("x")]), torch.from_numpy(inputs[name("y")]))
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
