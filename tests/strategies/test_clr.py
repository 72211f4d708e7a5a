"""Channel-wise reprogramming: identity at first, tasks apart to the bit, what a task adds."""

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from clgym.api import make_strategy
from clgym.errors import BadConfig, Incompatible, MissingData, OutOfReach
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.learner.trained import Trained
from clgym.models.backbones import Frozen, identify
from clgym.registry import find, load_module
from clgym.strategy import Batch, Experience
from factories import stream_info

clr = load_module(find("strategies", "clr"))

ANCHOR = {"backbone": "test_resnet@random", "image_size": 32, "epochs": 1, "batch_size": 8}


def set_up(**options: Any) -> Any:
    torch.manual_seed(0)
    strategy = make_strategy("clr", **{**ANCHOR, **options})
    strategy.setup(stream_info((3, 16, 16), "task-incremental"))
    return strategy


def task(index: int, rows: int = 16, classes: int = 2, **more: Any) -> Experience:
    generator = torch.Generator().manual_seed(index)
    images = torch.randint(0, 256, (rows, 3, 16, 16), dtype=torch.uint8, generator=generator)
    own = [tuple(range(classes * t, classes * (t + 1))) for t in range(index + 1)]
    return Experience(
        index,
        images // (index + 1),  # other statistics
        torch.arange(rows) % classes + classes * index,
        classes=own[-1],
        columns=classes * (index + 1),
        seed=0,
        scale=1 / 255,
        task=index,
        task_columns=tuple(own),
        **more,
    )


IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(5))


def answer(strategy: Any, index: int) -> Tensor:
    with torch.no_grad():
        return strategy.predict(Batch(IMAGES, task=index))[:, 2 * index : 2 * index + 2].clone()


@pytest.mark.parametrize("variant", ["clr", "full", "mixed"])
@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv2_050", "resnext26ts"])
def test_the_converted_network_is_the_anchor_at_first(variant: Any, name: str) -> None:
    torch.manual_seed(0)
    net = timm.create_model(name).eval()
    before = {n: p.clone() for n, p in net.named_parameters()}
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        plain = net(x)
        names = clr.convert(net, variant)
        assert torch.equal(net(x), plain)
    assert names
    kernels = {n for n, _ in net.named_parameters() if n.endswith("kernel.weight")}
    assert len(kernels) == len(names)
    frozen = {n for n, p in net.named_parameters() if not p.requires_grad}
    convs = {n for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    assert all(n.rpartition(".")[0] in convs for n in frozen)
    assert len(before) == len(dict(net.named_parameters())) - len(kernels)


@pytest.mark.parametrize("backbone", ["test_resnet@random", "first-task"])
def test_old_tasks_answer_the_same_bits_and_the_anchor_stays(backbone: str) -> None:
    strategy = set_up(backbone=backbone, network="slim-resnet18")
    answers: list[Tensor] = []
    anchor: dict[str, Tensor] = {}
    for index in range(3):
        strategy.train(task(index))
        answers.append(answer(strategy, index))
        for old in range(index + 1):
            assert torch.equal(answer(strategy, old), answers[old])
        convs = {
            n: p.detach().clone()
            for n, p in strategy.network.named_parameters()
            if ".conv." in n or n.endswith("conv.weight")
        }
        if anchor:
            assert all(torch.equal(anchor[n], p) for n, p in convs.items())
        anchor = convs
    kernels = [n for n in strategy.own[2] if n.endswith("kernel.weight")]
    for name in kernels:
        assert not torch.equal(strategy.own[1][name], strategy.own[2][name])
        start = strategy._start[name]
        assert torch.equal(start.sum((1, 2, 3)), torch.ones(len(start)))
    stats = [n for n in strategy.own[1] if n.endswith("running_mean")]
    assert stats
    assert all(not torch.equal(strategy.own[1][n], strategy.own[2][n]) for n in stats)


def test_the_order_of_tasks_does_not_matter() -> None:
    answers = []
    for first in (False, True):
        strategy = set_up()
        head = torch.nn.Linear(strategy.network.head.in_features, 2)
        torch.manual_seed(1)
        head.reset_parameters()
        strategy.make_head = lambda columns, head=head: copy.deepcopy(head)
        if not first:
            strategy.train(task(0))
        strategy.train(task(1))
        strategy.columns = [(0, 1), (2, 3)]
        strategy.own = [strategy.own[-1]] * 2
        answers.append(answer(strategy, 1))
    assert torch.equal(*answers)


@pytest.mark.parametrize(
    ("backbone", "variant", "percent"),
    [
        ("resnet18@random", "clr", 0.492),
        ("resnet18@random", "full", 0.564),
        ("resnet50@random", "clr", 0.547),
    ],
)
def test_a_task_of_20_classes_adds_what_the_paper_says(
    backbone: str, variant: str, percent: float
) -> None:
    strategy = set_up(backbone=backbone, variant=variant, batch_size=4)
    strategy.train(task(0, rows=4, classes=20))
    costs = strategy.costs()
    assert round(costs["growth_percent"], 3) == percent
    sizes = strategy.growth()
    assert sizes["statistics"] == sizes["norm"]
    stored = sum(v.numel() for n, v in strategy.own[0].items() if "tracked" not in n)
    share = costs["growth_with_statistics_percent"] * sizes["anchor"] / 100
    assert share == pytest.approx(stored)


def test_a_state_inside_a_task_continues_to_the_same_bits() -> None:
    whole, states = set_up(epochs=2), []
    whole.train(task(0))

    def save() -> None:
        if len(states) < 3:
            states.append(copy.deepcopy(whole.state_dict()))

    torch.manual_seed(7)
    whole.train(task(1, safe_point=save))
    again = set_up(epochs=2)
    again.load_state_dict(states[-1])
    again.train(task(1))
    for index in (0, 1):
        assert torch.equal(answer(again, index), answer(whole, index))


def test_a_network_without_convolutions_is_refused() -> None:
    with pytest.raises(BadConfig, match="convolutions"):
        set_up(backbone="first-task", network="mlp")


@pytest.mark.slow
def test_nothing_is_forgotten_in_a_run(tmp_path: Path) -> None:
    request = Request(
        "clr",
        "multi-digits",
        strategy_config={**ANCHOR, "epochs": 4, "lr": 0.01},
        scenario_config={"images": (100, 60)},
        out=tmp_path / "run",
        threads=1,
    )
    record = run(request)
    matrix = record.result.accuracy_matrix
    assert matrix[1][0] == matrix[0][0]
    assert record.result.last_accuracy > 0.5
    assert record.cost.own["growth_percent"] > 0


def record_epochs(strategy: Any, seen: list[Any]) -> None:
    """Note every epoch's accuracy on the held-out rows, from logits, and all weights."""
    watch = strategy.best.after_training_epoch

    def watched(template: Any, **kwargs: Any) -> None:
        rows, state = strategy.best.rows, strategy.network.state_dict()
        with torch.no_grad():
            logits = strategy.network.eval()(rows.to_float(rows.pixels))
        strategy.network.train()
        right = logits.argmax(1).numpy() == rows.labels.numpy() - min(rows.classes)
        seen.append((right.mean(), {n: v.clone() for n, v in state.items()}))
        watch(template, **kwargs)

    strategy.best.after_training_epoch = watched


@pytest.mark.parametrize("backbone", ["test_resnet@random", "first-task"])
def test_the_first_best_epoch_on_held_out_rows_is_kept_whole(backbone: str) -> None:
    options = {"select_on": "valid", "select_share": 0.4, "epochs": 6, "lr": 0.01}
    strategy = set_up(backbone=backbone, network="slim-resnet18", **options)
    seen: list[Any] = []
    record_epochs(strategy, seen)
    torch.manual_seed(3)
    strategy.train(task(0, rows=40))
    best = int(np.argmax([accuracy for accuracy, _ in seen]))
    assert best < len(seen) - 1  # the last epoch would not do
    kept = strategy.network.state_dict()
    assert all(torch.equal(kept[n], v) for n, v in seen[best][1].items())
    assert any(not torch.equal(kept[n], v) for n, v in seen[-1][1].items())
    assert all(torch.equal(strategy.own[0][n], kept[n]) for n in strategy.own[0])


def test_rows_to_select_on_are_trained_on_never() -> None:
    strategy = set_up(select_on="valid", select_share=0.25, epochs=3)
    experience, trained = task(0, rows=20), []
    whole = Experience.batches

    def batches(self: Experience, size: int, **options: Any) -> Any:
        for batch in whole(self, size, **options):
            if options.get("shuffle", True):
                trained.append(batch.pixels)
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experience, "batches", batches)
        strategy.train(experience)
    held = strategy.best.rows
    assert len(held) == 4  # two of ten in each of two classes
    images = {tuple(image.flatten().tolist()) for image in torch.cat(trained)}
    assert len(images) == 16
    wanted = clr.held_out(task(0, rows=20), 0.25)
    assert np.bincount(task(0, rows=20).labels[wanted].numpy()).tolist() == [2, 2]
    for image in task(0, rows=20).pixels[wanted]:
        assert tuple(image.flatten().tolist()) not in images
    assert experience.images == 3 * 20
    experience.close()
    with pytest.raises(OutOfReach):
        held.pixels  # noqa: B018


def test_a_class_keeps_its_only_row() -> None:
    strategy = set_up(select_on="valid", epochs=2)
    strategy.train(task(0, rows=2))
    assert not clr.held_out(task(0, rows=2), 0.5).any()
    assert len(strategy.own) == 1


def test_a_state_inside_a_selecting_task_continues_to_the_same_bits() -> None:
    options = {"select_on": "valid", "select_share": 0.3, "epochs": 4, "lr": 0.01}
    states: list[Any] = []
    whole = set_up(**options)

    def save() -> None:
        states.append(copy.deepcopy(whole.state_dict()))

    torch.manual_seed(7)
    whole.train(task(0, rows=24, safe_point=save))
    for state in (states[3], states[5]):  # in the second epoch, and at an epoch's end
        again = set_up(**options)
        again.load_state_dict(state)
        again.train(task(0, rows=24))
        assert torch.equal(answer(again, 0), answer(whole, 0))


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Naive on five digits."""
    folder = tmp_path_factory.mktemp("anchor") / "run"
    scenario = {"network": "slim-resnet18", "images": (40, 20)}
    source = "digits[0..4]"
    run(Request("naive", "multi-dataset", source, {}, scenario, out=folder, threads=1))
    return folder


def test_a_finished_run_is_the_anchor_and_its_path_stays_out_of_the_record(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLGYM_CACHE", str(tmp_path / "cache"))
    config = {"backbone": f"run@{trained_run}", "epochs": 1}
    scenario = {"images": (20, 10)}
    out = tmp_path / "run"  # inline: a warm worker knows another cache
    request = Request("clr", "multi-digits", None, config, scenario, out=out, engine="inline")
    record = run(request)
    text = (tmp_path / "run" / "record.json").read_text()
    assert str(trained_run) not in text
    name = record.result.strategy.config["backbone"]
    assert re.fullmatch(r"run@sha256:[0-9a-f]{64}", str(name))
    anchor = Trained.load(trained_run, "cpu")
    after = Trained.load(tmp_path / "run", "cpu")  # finds the anchor by its hash
    ours: Any = after.strategy
    images = torch.rand(3, 1, 8, 8)
    convs = {n: p for n, p in anchor.strategy.network.named_parameters() if p.dim() == 4}  # type: ignore[attr-defined]
    found = {n: p for n, p in ours.network.named_parameters() if p.dim() == 4 and ".conv." in n}
    assert len(convs) == 20
    short = {n.replace(".conv.", "."): p for n, p in found.items()}
    for name, weight in convs.items():
        plain = f"backbone.model.network.{name}"
        assert torch.equal(short.get(plain, ours.network.state_dict().get(plain)), weight)
    assert torch.equal(
        after.logits(images, 1), Trained.load(tmp_path / "run", "cpu").logits(images, 1)
    )


def test_at_first_an_anchor_from_a_run_gives_the_runs_features(trained_run: Path) -> None:
    strategy = make_strategy("clr", backbone=f"run@{trained_run}")
    strategy.setup(stream_info((1, 8, 8), "task-incremental"))
    anchor: Any = Trained.load(trained_run, "cpu").strategy
    images = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        wanted = anchor.network.eval().features(images)
        assert torch.equal(strategy.network.eval().features(images), wanted)
    colour = stream_info((3, 8, 8), "task-incremental")
    with pytest.raises(Incompatible, match="1 channel"):
        make_strategy("clr", backbone=f"run@{trained_run}").setup(colour)


def test_an_anchor_that_is_no_compatible_run_is_refused(trained_run: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="finished run"):
        identify(Frozen(f"run@{tmp_path}"))
    for name in ("run", "run[a=1]@x"):
        with pytest.raises(BadConfig, match="run@FOLDER"):
            identify(Frozen(name))
    config = {"backbone": f"run@{trained_run}", "epochs": 1}
    small = {"images": (20, 10)}
    run(Request("clr", "multi-digits", None, config, small, out=tmp_path / "clr", threads=1))
    with pytest.raises(Incompatible, match="one of clr"):
        identify(Frozen(f"run@{tmp_path / 'clr'}"))
