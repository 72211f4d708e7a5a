"""Channel-wise reprogramming: identity at first, tasks apart to the bit, what a task adds."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from clgym.api import make_strategy
from clgym.errors import BadConfig
from clgym.registry import find, load_module
from clgym.request import Request
from clgym.runner import run
from clgym.strategy import Batch, Experience, StreamInfo

clr = load_module(find("strategies", "clr"))

ANCHOR = {"backbone": "test_resnet@random", "image_size": 32, "epochs": 1, "batch_size": 8}


def set_up(**options: Any) -> Any:
    torch.manual_seed(0)
    strategy = make_strategy("clr", **{**ANCHOR, **options})
    cpu = torch.device("cpu")
    info = StreamInfo((3, 16, 16), "task-incremental", cpu, 0, (0.0,) * 3, (1.0,) * 3)
    strategy.setup(info)
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
