"""Test-time methods against the authors' code, step by step in float64."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import softmax

from clgym.adaptation import move_average, symmetric_cross_entropy
from clgym.config import build
from clgym.models.networks import Classifier
from clgym.registry import find, load_module
from clgym.strategy import Batch
from factories import stream_info

adabn, bn_1, cotta, lame, rmt, source, tent = (
    load_module(find("strategies", name))
    for name in ("adabn", "bn-1", "cotta", "lame", "rmt", "source", "tent")
)

FAMILY = ("rmt_", "lame_", "tent_", "bn_adapt", "cotta_")
CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-9}


def conv_of(weight, stride):
    out, into, side, _ = weight.shape
    return nn.Conv2d(into, out, side, stride, side // 2, bias=False)


class Tiny(nn.Module):
    """conv - bn - relu - conv, stride 2 - bn - relu - mean: the vectors' net up to its features."""

    def __init__(self, weights):
        super().__init__()
        first, second = weights["conv1.weight"], weights["conv2.weight"]
        self.conv1, self.bn1 = conv_of(first, 1), nn.BatchNorm2d(len(first))
        self.conv2, self.bn2 = conv_of(second, 2), nn.BatchNorm2d(len(second))

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        return self.bn2(self.conv2(x)).relu().mean((2, 3))


def ours(name):
    """The vectors' name of a parameter or statistic as a `Classifier` has it."""
    return name.replace("fc.", "head.") if name.startswith("fc.") else f"backbone.{name}"


def classifier(weights):
    columns, width = weights["fc.weight"].shape
    made = Classifier(Tiny(weights), width, columns).double()
    values = {ours(k): torch.from_numpy(v) for k, v in weights.items()}
    found = made.load_state_dict(values, strict=False)
    assert not found.unexpected_keys
    assert all("num_batches" in k or k in ("mean", "std") for k in found.missing_keys)
    return made.eval()


class FromFile:
    """Source data in the recorded order."""

    def __init__(self, images, labels):
        self.images, self.labels = torch.from_numpy(images), torch.from_numpy(labels)

    def batch(self, size, number):
        assert size == self.images.shape[1]
        return self.images[number % len(self.images)], self.labels[number % len(self.labels)]

    def once(self, size):
        assert size == self.images.shape[1]
        return zip(self.images, self.labels, strict=True)


def set_up(kind, golden, images, data=None, **options):
    """A strategy at the recorded initial weights; ``images`` [steps, n, C, S, S]."""
    strategy = kind(build(kind.Config, options, kind.__name__))
    made = stream_info(
        tuple(images.shape[2:]),
        "adaptation",
        mean=(),
        std=(),
        batch_size=images.shape[1],
        classifier=classifier(golden.group("init/")),
        source_data=data,
    )
    strategy.setup(made)
    return strategy


def answers(strategy, images):
    return [strategy.adapt(Batch(torch.from_numpy(x))).numpy() for x in images]


def assert_weights(network, expected, **tolerance):
    state = network.state_dict()
    assert expected
    for name, value in expected.items():
        if ours(name) in state:
            np.testing.assert_allclose(
                state[ours(name)], value, **(tolerance or CLOSE), err_msg=name
            )
        else:
            assert "running" in name, name  # statistics that batch normalisation does without


# --- lame ----------------------------------------------------------------------------------------


@pytest.mark.golden("lame_?", "lame_?_*")
def test_lame_solves_for_the_recorded_assignments(golden):
    single = golden["features"].dtype == np.float32
    tolerance: dict[str, Any] = {"rtol": 0, "atol": 1e-5} if single else CLOSE
    features = torch.from_numpy(golden["features"]).double()
    probabilities = torch.from_numpy(golden["logits"]).softmax(1).double()
    unary = -torch.log(probabilities + 1e-10)
    np.testing.assert_allclose(unary, golden["unary"], rtol=1e-5 if single else 1e-12)
    iterations = int(golden.number("max_iter", lame.LameConfig().iterations))
    tags = [name[2:] for name in golden if name.startswith("W_")]
    assert tags
    for tag in tags:
        kind, _, k = tag.partition("_k")
        weights = lame.affinity(features, kind.lower(), int(k or 0))  # linear has no neighbours
        np.testing.assert_allclose(weights, golden[f"W_{tag}"], **tolerance, err_msg=tag)
        z, energies = lame.solve(unary, weights, iterations)
        np.testing.assert_allclose(z, golden[f"Z_{tag}"], **tolerance, err_msg=tag)
        once, _ = lame.solve(unary, weights, 1)
        np.testing.assert_allclose(once, golden[f"Z1step_{tag}"], **tolerance, err_msg=tag)
        both, _ = lame.solve(unary, (weights + weights.T) / 2, iterations)
        np.testing.assert_allclose(both, golden[f"Zsym_{tag}"], **tolerance, err_msg=tag)
        hits = z.argmax(1).numpy() == golden["labels"]
        assert hits.mean() == pytest.approx(float(golden[f"acc_{tag}"]))
        if not single:
            assert len(energies) == int(golden[f"niter_{tag}"])
            np.testing.assert_allclose(energies, golden[f"energy_{tag}"], rtol=1e-9)


@pytest.mark.golden("lame_full_*")
def test_lame_from_images_with_source_statistics(golden):
    images = golden["test_x"][None]
    kind = golden.name.split("_")[2].lower()
    strategy = set_up(lame.Lame, golden, images, affinity=kind, neighbours=int(golden["knn"]))
    (logits,) = answers(strategy, images)
    np.testing.assert_allclose(softmax(torch.from_numpy(logits), 1), golden["Z"], **CLOSE)


@pytest.mark.parametrize("seed", range(4))
def test_files_of_other_sizes(seed, oracles, written):
    rng = np.random.default_rng(seed)
    test_lame_solves_for_the_recorded_assignments(written("lame_a", **oracles.lame(rng)))
    test_batch_statistics_in_every_form(written("bn_adapt", **oracles.bn_adapt(rng)))
    test_the_teacher_is_a_moving_average(written("rmt_ema", **oracles.moving_average(rng)))


# --- tent, batch normalisation, cotta ------------------------------------------------------------


@pytest.mark.golden("tent_*")
def test_tent_follows_the_entropy(golden):
    kind = golden.name.split("_")[1]
    strategy = set_up(tent.Tent, golden, golden["test_x"], lr=float(golden["lr"]), optimizer=kind)
    trained = [n for n, p in strategy.model.named_parameters() if p.requires_grad]
    assert sorted(trained) == sorted(ours(str(n)) for n in golden["param_names"])
    for step, images in enumerate(golden["test_x"]):
        answer = strategy.adapt(Batch(torch.from_numpy(images)))
        np.testing.assert_allclose(answer, golden[f"pred_{step}"], **CLOSE)
        entropy = tent.entropy(answer).mean().item()
        assert entropy == pytest.approx(float(golden[f"entropy_{step}"]), abs=1e-9)
        assert_weights(strategy.model, golden.group(f"model_{step}/"))


@pytest.mark.golden("bn_adapt*")
def test_batch_statistics_in_every_form(golden):
    images = golden["test_x"]
    momentum = golden.number("momentum", adabn.AdaBNConfig().momentum)
    forms: dict[str, Any] = {
        "source": set_up(source.Source, golden, images),
        "bn1": set_up(bn_1.BN1, golden, images),
        "bnema": set_up(adabn.AdaBN, golden, images, mode="ema", momentum=momentum),
    }
    for name in {n.rpartition("_")[0] for n in golden if n.startswith("bnalpha")}:
        share = float(name.removeprefix("bnalpha"))
        forms[name] = set_up(adabn.AdaBN, golden, images, mode="blend", momentum=share)
    for name, strategy in forms.items():
        for step, answer in enumerate(answers(strategy, images)):
            np.testing.assert_allclose(answer, golden[f"{name}_{step}"], **CLOSE, err_msg=name)
    for name in ("bn1", "bnema"):
        assert_weights(forms[name].model, golden.group(f"{name}_after{len(images)}/"))


BENCHMARKS = {"cifar": ("adam", "ce"), "imagenet": ("sgd", "symmetric")}
"""Optimiser and loss of the authors' configurations, by the word in a file's name."""


@pytest.mark.golden("cotta_*")
def test_cotta_step_by_step(golden):
    named = (pair for name, pair in BENCHMARKS.items() if name in golden.name)
    optimizer, loss = next(named, BENCHMARKS["cifar"])

    class Recorded(cotta.Cotta):
        place = 0
        at = 0

        def view(self, images):
            self.place += 1
            return torch.from_numpy(golden["test_x_aug"][self.place - 1])

        def uniform(self, name, like):
            key = name.removeprefix("backbone.").replace("head.", "fc.")
            return torch.from_numpy(golden[f"restore_u_{self.at}/{key}"])

    strategy = set_up(
        Recorded,
        golden,
        golden["test_x"],
        lr=float(golden["lr"]),
        threshold=float(golden["ap"]),
        restore=float(golden["rst"]),
        views=int(golden["naug"]),
        momentum=float(golden["ema"]),
        optimizer=optimizer,
        loss=loss,
    )
    for step, images in enumerate(golden["test_x"]):
        strategy.at = step
        answer = strategy.adapt(Batch(torch.from_numpy(images)))
        np.testing.assert_allclose(answer, golden[f"pred_{step}"], **CLOSE)
        assert_weights(strategy.model, golden.group(f"student_{step}/"))
        assert_weights(strategy.teacher, golden.group(f"teacher_{step}/"))


# --- rmt -----------------------------------------------------------------------------------------


@pytest.mark.golden("rmt_symce*")
def test_symmetric_cross_entropy_and_its_gradients(golden):
    student = torch.from_numpy(golden["student"]).requires_grad_()
    teacher = torch.from_numpy(golden["teacher"])
    each = symmetric_cross_entropy(student, teacher)
    np.testing.assert_allclose(each.detach(), golden["sce_per_sample"], **CLOSE)
    (gradient,) = torch.autograd.grad(each.mean(), student)
    np.testing.assert_allclose(gradient, golden["grad_of_mean_wrt_student"], **CLOSE)
    seen = torch.from_numpy(golden["student_aug"]).requires_grad_()
    both = 0.5 * symmetric_cross_entropy(student, teacher)
    both = both + 0.5 * symmetric_cross_entropy(seen, teacher)
    loss = both.mean()
    assert loss.item() == pytest.approx(float(golden["self_training_loss"]), abs=1e-9)
    for key, gradient in zip(
        ("grad_st_student", "grad_st_aug"), torch.autograd.grad(loss, (student, seen)), strict=True
    ):
        np.testing.assert_allclose(gradient, golden[key], **CLOSE)


@pytest.mark.golden("rmt_contrastive*")
def test_contrastive_loss_with_and_without_a_projector(golden):
    clean, seen = (torch.from_numpy(golden[k]).requires_grad_() for k in ("f_test", "f_aug"))
    prototypes = torch.from_numpy(golden["prototypes"])
    nearest = rmt.nearest_prototype(clean.detach(), prototypes)
    np.testing.assert_array_equal(nearest, golden["nearest_proto"])
    width, out = golden["proj_w0"].shape[1], golden["proj_w1"].shape[0]
    mlp = nn.Sequential(nn.Linear(width, out), nn.ReLU(), nn.Linear(out, out)).double()
    with torch.no_grad():
        for value, key in zip(mlp.parameters(), ("w0", "b0", "w1", "b1"), strict=True):
            value.copy_(torch.from_numpy(golden[f"proj_{key}"]))
    for name, projector in (("mlp", mlp), ("identity", nn.Identity())):
        views = [prototypes[nearest], clean, seen]
        loss = rmt.contrastive(views, projector, float(golden["temperature"]))
        assert loss.item() == pytest.approx(float(golden[f"loss_{name}"]), abs=1e-9)
        inputs = [clean, seen, *projector.parameters()]
        keys = [f"grad_f_{name}", f"grad_fa_{name}", *(f"grad_proj{i}_{name}" for i in range(4))]
        for key, gradient in zip(keys, torch.autograd.grad(loss, inputs), strict=False):
            np.testing.assert_allclose(gradient, golden[key], **CLOSE, err_msg=key)


@pytest.mark.golden("rmt_ema*")
def test_the_teacher_is_a_moving_average(golden):
    teacher, student = (
        nn.ParameterDict(
            {
                key.replace(".", "_"): torch.from_numpy(value.copy())
                for key, value in golden.group(prefix).items()
                if "running" not in key
            }
        )
        for prefix in ("teacher_before/", "student/")
    )
    (after,) = {name.split("/")[0] for name in golden if name.startswith("teacher_after_")}
    move_average(teacher, student, float(after.removeprefix("teacher_after_")))
    expected = golden.group(f"{after}/")
    assert expected
    for key, value in teacher.items():
        wanted = next(v for k, v in expected.items() if k.replace(".", "_") == key)
        np.testing.assert_allclose(value.detach(), wanted, rtol=0, atol=1e-15)


@pytest.mark.golden("rmt_*replay*", "rmt_*warmup*")
def test_rmt_step_by_step(golden):
    hp = json.loads(str(golden["hp"]))
    assert (hp["beta"], hp["sgd_momentum"], hp["nesterov"], hp["wd"]) == (0.9, 0.9, True, 0.0)
    views = iter(torch.from_numpy(golden["test_x_aug"]))
    initial = {k: torch.from_numpy(v) for k, v in golden.group("init_proj/").items()}

    class Recorded(rmt.RMT):
        def view(self, images):
            return next(views)

        def make_projector(self, width):
            made = super().make_projector(width).double()
            made.load_state_dict(initial)
            return made

    strategy = set_up(
        Recorded,
        golden,
        golden["test_x"],
        FromFile(golden["src_x"], golden["src_y"]),
        **options_of(hp),
    )
    np.testing.assert_allclose(strategy.prototypes, golden["proto"], **CLOSE)
    assert_weights(strategy.model, golden.group("post_warmup_student/"))
    assert_weights(strategy.teacher, golden.group("post_warmup_teacher/"))
    for key, value in strategy.projector.state_dict().items():
        assert torch.equal(value, initial[key])  # the warm-up gives it no gradient
    for step, images in enumerate(golden["test_x"]):
        answer = strategy.adapt(Batch(torch.from_numpy(images)))
        np.testing.assert_allclose(answer, golden[f"pred_{step}"], **CLOSE)
        assert_weights(strategy.model, golden.group(f"student_{step}/"))
        assert_weights(strategy.teacher, golden.group(f"teacher_{step}/"))
        for key, value in golden.group(f"proj_{step}/").items():
            np.testing.assert_allclose(strategy.projector.state_dict()[key], value, **CLOSE)


def options_of(hp):
    """The vectors' hyper-parameters as options of ours."""
    return {
        "optimizer": hp["opt"].lower(),
        "lr": hp["lr"],
        "momentum": hp["ema"],
        "temperature": hp["T"],
        "projection": hp["proj_dim"],
        "lambda_src": hp["lambda_src"],
        "lambda_trg": hp["lambda_trg"],
        "lambda_con": hp["lambda_cont"],
        "warmup_images": hp["warmup_steps"] * hp["N"],
    }
