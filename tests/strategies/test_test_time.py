"""Properties of the test-time methods that the published vectors do not show."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from clgym.config import build
from clgym.errors import BadBatch, BadConfig, BadSource, Incompatible, MissingData
from clgym.models.cifar_resnet import CifarResNet
from clgym.models.networks import Classifier
from clgym.registry import find, load_class, load_module
from clgym.strategy import Batch, Strategy
from factories import stream_info

METHODS = ["source", "bn-1", "adabn", "tent", "cotta", "eata", "sar", "lame", "rmt"]
SMALL: dict[str, dict[str, Any]] = {
    "rmt": {"warmup_images": 32},
    "cotta": {"views": 2, "threshold": 2.0},
    "eata": {"fisher_images": 32, "entropy": 1.0, "margin": 1.0},
    "sar": {"entropy": 1.0, "collapse": 0.0},
}


class Rows:
    """Source data: 40 images of 4 classes."""

    def __init__(self):
        generator = torch.Generator().manual_seed(5)
        self.images = torch.rand(40, 3, 12, 12, generator=generator)
        self.labels = torch.arange(40) % 4

    def batch(self, size, number):
        rows = torch.arange(number * size, (number + 1) * size) % 40
        return self.images[rows], self.labels[rows]

    def once(self, size):
        return zip(self.images.split(size), self.labels.split(size), strict=True)


def network():
    torch.manual_seed(0)
    made = Classifier(CifarResNet(1), CifarResNet.width, 4)
    with torch.no_grad():  # statistics unlike those of the batches below
        made.train()(torch.rand(64, 3, 12, 12) * 0.5)
    return made.eval()


def start(name, classifier=None, batch_size=16, device="cpu", **options):
    kind = load_class(find("strategies", name), Strategy)
    strategy = kind(build(kind.Config, {**SMALL.get(name, {}), **options}, name))
    torch.manual_seed(1)
    info = stream_info(
        (3, 12, 12),
        "adaptation",
        mean=(),
        std=(),
        batch_size=batch_size,
        classifier=classifier or network(),
        source_data=Rows() if strategy.needs.source_data else None,  # type: ignore[arg-type]
    )
    strategy.setup(dataclasses.replace(info, device=torch.device(device)))
    return strategy


def stream(steps=3, size=16):
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(size, 3, 12, 12, generator=generator) for _ in range(steps)]


def play(strategy, batches):
    answers = []
    for number, images in enumerate(batches):
        torch.manual_seed(number)
        answers.append(strategy.adapt(Batch(images)).clone())
    return torch.stack(answers)


@pytest.mark.parametrize("name", METHODS)
def test_a_reset_forgets_everything(name):
    strategy = start(name)
    first = play(strategy, stream())
    strategy.reset()
    assert torch.equal(play(strategy, stream()), first)


@pytest.mark.parametrize("name", METHODS)
def test_a_state_goes_on_where_it_was_saved(name):
    batches = stream(4)
    one = start(name)
    play(one, batches[:2])
    other = start(name)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert torch.equal(play(other, batches[2:]), play(one, batches[2:]))


@pytest.mark.parametrize("name", METHODS)
def test_answers_carry_no_gradient_and_predicting_changes_nothing(name):
    strategy = start(name)
    before = play(strategy, stream(1))
    assert not before.requires_grad
    torch.manual_seed(3)
    with torch.no_grad():
        first = strategy.predict(Batch(stream(1)[0]))
        torch.manual_seed(3)
        assert torch.equal(strategy.predict(Batch(stream(1)[0])), first)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_short_tail_is_answered(name, size):
    strategy = start(name)
    play(strategy, stream(1))
    assert strategy.adapt(Batch(stream(1, size)[0])).shape == (size, 4)


@pytest.mark.parametrize("name", METHODS)
def test_single_images_are_answered_with_those_before(name):
    strategy = start(name, batch_size=1, window=4)
    batches = stream(9, 1)
    answers = play(strategy, batches)
    assert answers.shape == (9, 1, 4)
    if name == "bn-1":
        with torch.no_grad():
            expected = strategy.model(torch.cat(batches[5:9]))[-1:]
        assert torch.equal(answers[-1], expected)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_pixels_that_are_not_numbers_are_refused(name, bad):
    images = stream(1)[0]
    images[3, 1, 5, 5] = bad
    with pytest.raises(BadBatch, match="NaN or infinity"):
        start(name).adapt(Batch(images))


def test_another_image_size_is_refused():
    with pytest.raises(BadBatch, match="12, 12"):
        start("source").adapt(Batch(torch.rand(4, 3, 10, 10)))


@pytest.mark.parametrize("name", ["bn-1", "adabn", "tent", "eata", "sar"])
def test_a_network_without_normalisation_is_refused(name):
    plain = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(432, 8)), 8, 4)
    with pytest.raises(Incompatible, match="normalisation"):
        start(name, plain)


@pytest.mark.parametrize("name", ["tent", "eata", "sar"])
def test_scale_and_shift_alone_change(name):
    strategy = start(name, lr=0.1)
    before = {k: v.clone() for k, v in strategy.model.state_dict().items()}
    play(strategy, stream())
    changed = {k for k, v in strategy.model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert all("bn" in key for key in changed)


@pytest.mark.parametrize("name", ["bn-1", "tent", "cotta", "rmt"])
def test_no_running_statistics_are_left(name):
    strategy = start(name)
    assert not any("running" in key for key in strategy.model.state_dict())


def test_predicting_after_the_update_uses_the_new_weights():
    images = stream(1)[0]
    before, after = (start("tent", lr=0.05, predict=p) for p in ("before", "after"))
    play(before, [images])
    answer = after.adapt(Batch(images))
    with torch.no_grad():
        assert torch.allclose(answer, before.model(images))


def test_cotta_restores_all_weights_at_probability_one():
    strategy = start("cotta", restore=1.0, lr=0.1)
    before = {k: v.clone() for k, v in strategy.model.state_dict().items()}
    play(strategy, stream())
    for key, value in strategy.model.state_dict().items():
        assert torch.equal(value, before[key])
    assert any(
        not torch.equal(a, b)
        for a, b in zip(strategy.teacher.parameters(), strategy.anchor.parameters(), strict=True)
    )


def test_eata_without_reliable_samples_learns_nothing():
    strategy = start("eata", entropy=0.0)
    before = {k: v.clone() for k, v in strategy.model.state_dict().items()}
    play(strategy, stream())
    assert all(torch.equal(v, before[k]) for k, v in strategy.model.state_dict().items())


def test_a_strong_fisher_penalty_holds_the_weights():
    def moved(weight):
        strategy = start("eata", fisher=weight, lr=0.01)
        play(strategy, stream(6))
        pairs = zip(strategy._weights, strategy._source, strict=True)
        return sum(((w - s) ** 2).sum().item() for w, s in pairs)

    assert moved(1e4) < moved(0.0)


def test_sar_returns_to_the_source_when_the_loss_is_suspiciously_low():
    strategy = start("sar", lr=0.05, collapse=1e9)
    before = {k: v.clone() for k, v in strategy.model.state_dict().items()}
    play(strategy, stream())
    assert all(torch.equal(v, before[k]) for k, v in strategy.model.state_dict().items())


def test_sar_counts_its_returns_and_keeps_the_count_over_a_reset():
    strategy = start("sar", lr=0.05, collapse=1e9)
    assert strategy.costs() == {"resets": 0.0}
    play(strategy, stream(3))
    assert strategy.costs() == {"resets": 3.0}
    again = start("sar", lr=0.05, collapse=1e9)
    again.load_state_dict(copy.deepcopy(strategy.state_dict()))
    strategy.reset()
    assert strategy.costs() == again.costs() == {"resets": 3.0}
    never = start("sar", lr=0.05, collapse=0.0)
    play(never, stream(3))
    assert never.costs() == {"resets": 0.0}


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_sar_s_collapse_scales_with_the_classes(classes):
    """By its definition: 0.2 nats on 1000 classes, and the same share of ln(n) elsewhere."""
    limit = 0.2 * np.log(classes) / np.log(1000)
    for loss, returns in ((0.999 * limit, 1), (1.001 * limit, 0)):
        strategy = start("sar", collapse=load_default("sar", "collapse"))
        strategy._watch(loss, np.log(classes))
        assert strategy.resets == returns


def test_sar_moves_by_its_momentum_where_no_sample_counts_at_the_sharpest_point(monkeypatch):
    """w2 = w1 - lr (0.9 v + 0), and v = (w0 - w1) / lr after the first step."""
    sure = network()
    with torch.no_grad():
        sure.head.weight.mul_(50)
    strategy = start("sar", sure, entropy=0.9, lr=0.05)
    first, second = stream(2)
    before = [w.detach().clone() for w in strategy._weights]
    strategy.adapt(Batch(first))
    moved = [w.detach().clone() for w in strategy._weights]
    assert any(not torch.equal(a, b) for a, b in zip(before, moved, strict=True))
    climb = type(strategy)._climb

    def to_a_uniform_guess(self):
        kept = climb(self)
        with torch.no_grad():
            for weight in self._weights:
                weight.zero_()
        return kept

    monkeypatch.setattr(type(strategy), "_climb", to_a_uniform_guess)
    strategy.adapt(Batch(second))
    for old, one, two in zip(before, moved, strategy._weights, strict=True):
        torch.testing.assert_close(two, one + 0.9 * (one - old))


def load_default(name, option):
    kind = load_class(find("strategies", name), Strategy)
    return getattr(build(kind.Config, {}, name), option)


@pytest.mark.parametrize(("size", "options"), [(16, {}), (1, {"window": 4})])
@pytest.mark.parametrize("collapse", [0.0, 1e9])
def test_sar_without_a_step_is_bn_1(size, options, collapse):
    """Bit for bit, whether it returns to the source after every update or never."""
    batches = stream(11, size)
    sar = start("sar", batch_size=size, lr=0.0, collapse=collapse, **options)
    plain = start("bn-1", batch_size=size, **options)
    assert torch.equal(play(sar, batches), play(plain, batches))
    assert (sar.resets > 0) == (collapse > 0)


# --- lame ----------------------------------------------------------------------------------------

lame = load_module(find("strategies", "lame"))


@pytest.mark.parametrize("kind", ["knn", "rbf", "linear"])
def test_lame_answers_a_single_image_as_the_source_does(kind):
    strategy = start("lame", affinity=kind)
    image = stream(1, 1)[0]
    with torch.no_grad():
        expected = strategy.model(image).softmax(1)
    assert torch.allclose(strategy.adapt(Batch(image)).softmax(1).float(), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["knn", "rbf", "linear"])
def test_lame_survives_copies(kind):
    strategy = start("lame", affinity=kind)
    images = stream(1, 1)[0].repeat(8, 1, 1, 1)
    assert strategy.adapt(Batch(images)).isfinite().all()


@pytest.mark.parametrize("kind", ["knn", "rbf", "linear"])
def test_lame_does_not_look_at_the_order_of_a_batch(kind):
    strategy = start("lame", affinity=kind)
    images, order = stream(1)[0], torch.randperm(16)
    answers = strategy.adapt(Batch(images))
    assert torch.allclose(strategy.adapt(Batch(images[order])), answers[order], atol=1e-8)


def test_lame_s_neighbours_leave_the_point_itself_out_by_index():
    twins = torch.rand(4, 6).repeat_interleave(2, 0).double()
    weights = lame.affinity(twins, "knn", 1)
    expected = torch.zeros(8, 8).double()
    for i in range(8):
        expected[i, i ^ 1] = 1
    assert torch.equal(weights, expected)


def test_a_symmetric_positive_kernel_lowers_the_energy_in_every_step():
    torch.manual_seed(0)
    features, unary = torch.rand(20, 6).double(), torch.rand(20, 5).double() * 3
    _, energies = lame.solve(unary, lame.affinity(features, "rbf", 5), 100)
    assert all(b <= a + 1e-9 for a, b in zip(energies, energies[1:], strict=False))


def test_rbf_without_width_is_refused():
    with pytest.raises(BadConfig, match="at least 2 neighbours"):
        start("lame", affinity="rbf", neighbours=1)


# --- rmt -----------------------------------------------------------------------------------------


def test_rmt_source_free_needs_no_source_with_prototypes_from_a_file(tmp_path):
    from safetensors.torch import save_file

    kind = load_class(find("strategies", "rmt"), Strategy)

    def needs(**options):
        return kind(build(kind.Config, options, "rmt")).needs.source_data

    assert needs()
    assert needs(lambda_src=0.0, warmup_images=0)
    file = tmp_path / "p.safetensors"
    free = {"lambda_src": 0.0, "warmup_images": 0, "prototypes": str(file)}
    assert not needs(**free)
    with pytest.raises(MissingData):
        start("rmt", **free)
    save_file({"prototypes": torch.full((4, 64), torch.nan)}, file)
    with pytest.raises(BadSource, match="finite"):
        start("rmt", **free)
    prototypes = torch.rand(4, 64)
    save_file({"prototypes": prototypes}, file)
    strategy = start("rmt", **free)
    assert torch.equal(strategy.prototypes, prototypes)
    assert play(strategy, stream()).isfinite().all()


def test_a_class_without_source_images_is_named(monkeypatch):
    monkeypatch.setattr(Rows, "once", lambda self, size: [(self.images[:3], self.labels[:3])])
    with pytest.raises(BadSource, match="none of class 3"):
        start("rmt")


def test_samples_with_one_prototype_are_no_positives_of_each_other():
    rmt = load_module(find("strategies", "rmt"))
    prototype, first, second = torch.rand(1, 6), torch.rand(2, 6), torch.rand(2, 6)
    views = [prototype.expand(2, 6), first, second]
    loss = rmt.contrastive(views, nn.Identity(), 0.1)
    rows = nn.functional.normalize(torch.cat(views))
    total = 0.0
    for i in range(6):
        scores = rows @ rows[i] / 0.1
        others = torch.logsumexp(scores[[k for k in range(6) if k != i]], 0)
        total -= sum((scores[k] - others).item() / 2 for k in range(6) if k != i and k % 2 == i % 2)
    assert loss.item() == pytest.approx(total / 6, rel=1e-5)


@pytest.mark.parametrize("name", ["source", "bn-1", "adabn", "tent"])
def test_no_batch_reads_from_the_device(name):
    """Tensors of torch's device meta have no values: reading one raises.

    The one read of a batch is the answer's, by the gym.
    """
    strategy = start(name, network().to("meta"), device="meta")
    images = torch.zeros(16, 3, 12, 12, device="meta")
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        strategy.adapt(Batch(images))  # of pixels that may be anything the values are checked
    for _ in range(2):
        assert strategy.adapt(Batch(images, finite=True)).shape == (16, 4)
