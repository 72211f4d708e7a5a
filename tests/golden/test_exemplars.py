"""The methods with exemplars against whole runs of the authors' code, in float64."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clgym.models.distillation import cosine_distance, distillation, pooled_distance
from clgym.models.exemplars import class_means, herding, nearest_mean_logits
from clgym.models.incremental import align_new_rows
from clgym.registry import find, load_module
from clgym.strategy import Memory
from factories import stream_info
from sessions import FromFile, Session, plain_tensors

FAMILY = (
    *("replay_session", "icarl_session", "wa_", "bic_", "podnet_"),
    *("scratch_herding", "scratch_kd"),
)


podnet = load_module(find("strategies", "podnet"))


def strategy_of(name: str) -> Any:
    module = load_module(find("strategies", name))
    (found,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and "Config" in vars(value)
    ]
    return found


@pytest.fixture(autouse=True)
def doubles() -> Iterator[None]:
    """The files' numbers were made in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def close(found: Any, wanted: np.ndarray, tolerance: float = 1e-9) -> None:
    found = found.detach().numpy() if isinstance(found, Tensor) else np.asarray(found)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)


@pytest.mark.golden("replay_session_*")
def test_exemplar_replay(golden) -> None:
    Session(golden, strategy_of("exemplar-replay"), {}).run()


@pytest.mark.golden("icarl_session_*")
def test_icarl(golden) -> None:
    options = {"T": "temperature", "lambda_aux": "lambda_aux"}
    Session(golden, strategy_of("icarl"), options).run()


@pytest.mark.golden("wa_session_*")
def test_wa(golden) -> None:
    options = {"T": "temperature", "lambda_kd": "lambda_kd"}
    Session(golden, strategy_of("wa"), options).run()


def bic_tensors(strategy: Any) -> dict[str, Tensor]:
    """Those of the plain network, and a pair for each task."""
    plain = {k: v for k, v in plain_tensors(strategy).items() if "corrections" not in k}
    pairs = enumerate(strategy.network.corrections)
    return plain | {f"bias{s}.{k}": v for s, pair in pairs for k, v in pair.named_parameters()}


@pytest.mark.golden("bic_session_*")
def test_bic(golden) -> None:
    class WithTheFilesSplit(strategy_of("bic")):
        def validation_rows(self, whole: Any) -> Tensor:
            rows = super().validation_rows(whole)
            ids = golden[f"task{whole.index}.val.order"][0]
            place = {whole.id_of[row.numpy().tobytes()]: i for i, row in enumerate(whole.pixels)}
            wanted = torch.tensor([place[number] for number in ids.tolist()])
            count = torch.bincount(whole.labels[rows])
            assert torch.equal(torch.bincount(whole.labels[wanted]), count), "other sizes"
            return wanted

    options = {"T": "temperature", "lambda_kd": "lambda_kd", "split_ratio": "split_ratio"}
    Session(golden, WithTheFilesSplit, options, tensors=bic_tensors).run(("train", "val"))


def podnet_tensors(strategy: Any) -> dict[str, Tensor]:
    """The backbone's, and the proxies by the names of the files."""
    head, found = strategy.network.head, plain_tensors(strategy)
    plain = {k: v for k, v in found.items() if not k.startswith("head.")}
    if not len(head.old_weight):
        return {**plain, "head.weight": head.new_weight, "head.sigma": head.sigma}
    return {**plain, **{f"head.{name}": v for name, v in head.named_parameters()}}


def podnet_fresh(name: str, task: int, known: int) -> slice:
    """New proxies are drawn."""
    return slice(None) if task == 0 or name == "head.new_weight" else slice(0, 0)


@pytest.mark.golden("podnet_session_*")
def test_podnet(golden) -> None:
    options = {
        "lambda_c": "lambda_c", "lambda_f": "lambda_f", "nb_proxy": "proxies",
        "ft_epochs": "finetune_epochs", "ft_lrate": "finetune_lr",
        "adaptive_factor": "adaptive_factor",
    }  # fmt: skip

    class Watched(strategy_of("podnet")):
        def balanced(self, experience: Any) -> Any:
            data, task = super().balanced(experience), f"task{experience.index}"
            ids = [data.id_of[row.numpy().tobytes()] for row in data.pixels]
            assert sorted(ids) == sorted(golden[f"{task}.finetune_memory_ids"].tolist())
            return data

    session = Session(
        golden, Watched, options, tensors=podnet_tensors, fresh=podnet_fresh, tolerance=1e-8
    )
    session.run(("train", "finetune"))


@pytest.mark.golden("scratch_herding_*")
def test_herding(golden) -> None:
    x, y = torch.from_numpy(golden["train_x"]), torch.from_numpy(golden["train_y"]).long()
    test, size = torch.from_numpy(golden["test_x"]), int(golden["memory_size"])
    kept: list[torch.Tensor] = []
    seen = 0
    for task, increment in enumerate(golden["increments"].tolist()):
        new = range(seen, seen + increment)
        seen += increment
        share = size // seen
        assert share == golden[f"per_class_{task}"]
        kept = [rows[:share] for rows in kept]
        for label in new:
            rows = (y == label).nonzero()[:, 0]
            kept.append(rows[herding(x[rows], share)])
        ids = torch.cat(kept)
        np.testing.assert_array_equal(ids.numpy(), golden[f"memory_ids_{task}"])
        np.testing.assert_array_equal(y[ids].numpy(), golden[f"memory_targets_{task}"])
        means = class_means(x[ids], y[ids], seen)
        np.testing.assert_allclose(means.numpy(), golden[f"class_means_{task}"], atol=1e-9)
        order = np.concatenate([np.flatnonzero(golden["test_y"] == c) for c in range(seen)])
        np.testing.assert_array_equal(golden["test_y"][order], golden[f"nme_targets_{task}"])
        nearest = nearest_mean_logits(test[order], means).argsort(1, descending=True)
        np.testing.assert_array_equal(nearest.numpy(), golden[f"nme_ranking_{task}"])
    first = (y == 0).nonzero()[:, 0]
    ranking = first[herding(x[first], len(golden["full_order_class0"]))]
    np.testing.assert_array_equal(ranking.numpy(), golden["full_order_class0"])


@pytest.mark.golden("scratch_kd_*")
def test_distillation(golden) -> None:
    old, targets = torch.from_numpy(golden["old_logits"]), torch.from_numpy(golden["targets"])
    known, classes = int(golden["n_known"]), golden["logits"].shape[1]
    share = known / classes
    for weights, total, gradient in (
        ((1.0, float(golden["lam"])), "total", "grad"),
        ((1 - share, share), "total_paper_weighting", "grad_paper_weighting"),
    ):
        logits = torch.from_numpy(golden["logits"]).requires_grad_()
        entropy = torch.nn.functional.cross_entropy(logits, targets.long())
        kd = distillation(logits, old, float(golden["T"]))
        assert entropy.item() == pytest.approx(float(golden["ce"]), abs=1e-9)
        assert kd.item() == pytest.approx(float(golden["kd"]), abs=1e-9)
        loss = weights[0] * entropy + weights[1] * kd
        assert loss.item() == pytest.approx(float(golden[total]), abs=1e-9)
        loss.backward()
        close(logits.grad, golden[gradient], 1e-9)


@pytest.mark.golden("wa_align_*")
def test_alignment(golden) -> None:
    weight, bias = torch.from_numpy(golden["weight"]), torch.from_numpy(golden["bias"])
    known = int(golden["n_known"])
    before = weight[:known].clone()
    assert align_new_rows(weight, known) == pytest.approx(float(golden["gamma"]), abs=1e-9)
    close(weight, golden["weight_aligned"])
    assert torch.equal(weight[:known], before)
    close(bias, golden["bias_after"])
    close(torch.from_numpy(golden["features"]) @ weight.T + bias, golden["logits_aligned"])
    assert align_new_rows(weight, known) == pytest.approx(1, abs=1e-9)
    close(weight, golden["weight_aligned_twice"])


@pytest.mark.golden("bic_stage2_*")
def test_correction(golden) -> None:
    """The pair alone, on a network that returns its images."""
    sizes, hp = golden["task_sizes"].tolist(), json.loads(str(golden["hp"]))
    raw, labels = torch.from_numpy(golden["raw_logits"]), torch.from_numpy(golden["targets"])
    classes, images = raw.shape[1], raw[:, :, None, None]

    class PairOnly(strategy_of("bic")):
        def make_backbone(self) -> Any:
            return torch.nn.Flatten(), classes

        def begin(self, experience: Any) -> None: ...

        def before_experience(self, experience: Any) -> None: ...

        def after_experience(self, experience: Any) -> None: ...

        def with_exemplars(self, experience: Any) -> Any:
            return experience

        def validation_rows(self, whole: Any) -> Tensor:
            return torch.arange(len(whole))

        def stages(self, experience: Any) -> Any:
            return super().stages(experience)[1:]

        def drops(self, stage: str, epochs: int) -> tuple[int, ...]:
            return tuple(hp["milestones"])

    config = PairOnly.Config(
        epochs=hp["epochs"],
        lr=hp["lr"],
        lr_decay=hp["lr_decay"],
        weight_decay=hp["weight_decay"],
        batch_size=hp["batch_size"],
        augment="none",
    )
    strategy: Any = PairOnly(config)
    strategy.setup(stream_info((classes, 1, 1), memory=Memory(1)))
    network = strategy.network
    for task in range(len(sizes)):
        network.grow(sum(sizes[: task + 1]))
    strategy.known = classes - sizes[-1]
    with torch.no_grad():
        network.head.weight.copy_(torch.eye(classes))
        network.head.bias.zero_()
        for pair, values in zip(network.corrections, golden["alpha_beta_previous"], strict=False):
            pair.alpha.fill_(values[0])
            pair.beta.fill_(values[1])
    close(network(images), golden["corrected_before"])
    experience = FromFile(
        len(sizes) - 1,
        images,
        labels.long(),
        classes=tuple(range(strategy.known, classes)),
        columns=classes,
        seed=0,
        scale=1.0,
    )
    experience.id_of = {row.numpy().tobytes(): i for i, row in enumerate(images)}
    experience.orders = list(golden["order"])
    losses: list[float] = []
    criterion = strategy.template.criterion

    def noted() -> Tensor:
        loss = criterion()
        losses.append(float(loss.detach()))
        return loss

    strategy.template.criterion = noted
    strategy.train(experience)
    close(losses, golden["loss"])
    close(network.corrections[-1].alpha, golden["alpha"])
    close(network.corrections[-1].beta, golden["beta"])
    close(network(images), golden["corrected_after"])


@pytest.mark.golden("podnet_losses_*")
def test_podnet_losses(golden) -> None:
    count = golden.count("new_map_")
    maps = [torch.from_numpy(golden[f"new_map_{i}"]).requires_grad_() for i in range(count)]
    old_maps = [torch.from_numpy(golden[f"old_map_{i}"]) for i in range(count)]
    spatial = pooled_distance(maps, old_maps)
    spatial.backward()
    close(spatial, golden["pod_spatial"], 1e-8)
    for i, found in enumerate(maps):
        close(found.grad, golden[f"grad_map_{i}"], 1e-8)
    features = torch.from_numpy(golden["new_features"]).requires_grad_()
    flat = cosine_distance(features, torch.from_numpy(golden["old_features"]))
    flat.backward()
    close(flat, golden["pod_flat"], 1e-8)
    close(features.grad, golden["grad_features"], 1e-8)
    logits = torch.from_numpy(golden["nca_logits"]).requires_grad_()
    targets = torch.from_numpy(golden["nca_targets"]).long()
    loss = podnet.nca(logits, targets)
    loss.backward()
    for name in ("nca", "nca_margin0"):
        close(loss, golden[name], 1e-8)
    close(podnet.nca(3 * logits, targets), golden["nca_scale3"], 1e-8)
    close(logits.grad, golden["nca_grad"], 1e-8)


@pytest.mark.golden("podnet_head_*")
def test_podnet_head(golden) -> None:
    features = torch.from_numpy(golden["features"]).requires_grad_()
    head, seen = podnet.ProxyHead(features.shape[1], int(golden["nb_proxy"])), 0
    logits = features
    for task, size in enumerate(golden["sizes"].tolist()):
        seen += size
        before = torch.cat([head.old_weight, head.new_weight]).detach().clone()
        sigma = head.sigma.detach().clone()
        head.grow(seen)
        assert torch.equal(head.old_weight, before)
        assert torch.equal(head.sigma, sigma)
        bound = 1 / features.shape[1] ** 0.5
        assert float(head.new_weight.detach().abs().max()) <= bound
        # The file tells no sigma for task 0: it had the one that task 1 inherits.
        group = {"sigma": golden["task1.sigma"], **golden.group(f"task{task}.")}
        names = {"proxies": head.new_weight, "proxies_new": head.new_weight}
        names |= {"proxies_old": head.old_weight, "sigma": head.sigma}
        with torch.no_grad():
            for name in names.keys() & group.keys():
                names[name].copy_(torch.from_numpy(group[name]))
        logits = head(features)
        close(logits, group["logits"], 1e-8)
    (logits * torch.from_numpy(golden["probe"])).sum().backward()
    last = golden.group(f"task{len(golden['sizes']) - 1}.grad_")
    close(features.grad, last["features"], 1e-8)
    close(head.new_weight.grad, last["proxies_new"], 1e-8)
    close(head.sigma.grad, last["sigma"], 1e-8)


@pytest.mark.golden("podnet_original_*")
def test_podnet_as_its_authors_have_it(golden) -> None:
    proxies, old, new = (int(golden[key]) for key in ("nb_proxy", "n_old", "n_new"))
    features = torch.from_numpy(golden["features"]).requires_grad_()
    head = podnet.ProxyHead(features.shape[1], proxies, original=True)
    head.grow(old)
    with torch.no_grad():
        head.new_weight.copy_(torch.from_numpy(golden["proxies_old"]))
    head.grow(old + new)
    head.imprint([torch.from_numpy(golden[f"class_features_{c}"]) for c in range(new)], seed=0)
    wanted = torch.from_numpy(golden["proxies_new_imprinted"]).unflatten(0, (new, proxies))
    for found, centres in zip(head.new_weight.detach().chunk(new), wanted, strict=True):
        nearest = torch.cdist(found, centres).min(0)
        assert sorted(nearest.indices.tolist()) == list(range(proxies))
        assert float(nearest.values.max()) < 1e-8
    targets, logits = torch.from_numpy(golden["targets"]).long(), head(features)
    close(logits, golden["logits"], 1e-8)
    for name, loss in golden.group("nca_scale").items():
        scale = float(name.partition("_")[0])
        close(podnet.nca(scale * logits, targets), loss, 1e-8)
    for name, gradient in golden.group("grad_features_scale").items():
        loss = podnet.nca(float(name) * logits, targets)
        (found,) = torch.autograd.grad(loss, features, retain_graph=True)
        close(found, gradient, 1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_files_of_other_sizes(seed: int, oracles: Any, written: Any) -> None:
    rng = np.random.default_rng(seed)
    test_herding(written("scratch_herding", **oracles.scratch_herding(rng)))
    test_distillation(written("scratch_kd", **oracles.scratch_kd(rng)))
    test_alignment(written("wa_align", **oracles.wa_align(rng)))
    test_correction(written("bic_stage2", **oracles.bic_stage2(rng)))
