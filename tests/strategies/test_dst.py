"""Dynamic sparse training: owned weights, masks, densities, exact memory of old tasks."""

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from clgym.api import make_strategy
from clgym.errors import BadConfig
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.models import sparse
from clgym.strategy import Batch, Experience
from factories import stream_info


def set_up(network: str = "slim-resnet18", **options: Any) -> Any:
    torch.manual_seed(0)
    given = {"epochs": 1, "batch_size": 8, "update_every": 2, "network": network, **options}
    strategy = make_strategy("dst", **given)
    scale = {"mean": (0.5,) * 3, "std": (0.2,) * 3}
    strategy.setup(stream_info((3, 8, 8), "task-incremental", total_columns=6, **scale))
    return strategy


def task(index: int, rows: int = 32, **more: Any) -> Experience:
    generator = torch.Generator().manual_seed(index)
    return Experience(
        index,
        torch.randint(0, 256, (rows, 3, 8, 8), dtype=torch.uint8, generator=generator),
        torch.arange(rows) % 2 + 2 * index,
        classes=(2 * index, 2 * index + 1),
        columns=2 * index + 2,
        seed=0,
        scale=1 / 255,
        task=index,
        task_columns=tuple((2 * t, 2 * t + 1) for t in range(index + 1)),
        **more,
    )


def answer(strategy: Any, index: int) -> Tensor:
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        return strategy.predict(Batch(images, task=index))[:, 2 * index : 2 * index + 2].clone()


TRIALS = [
    {"growth": "gradient"},
    {"growth": "random", "init": "erk", "weight_decay": 0.1},
    {"growth": "momentum", "optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1},
    {"growth": "unfired", "norm": "batch", "fresh_init": True},
    {"growth": "gradient", "death": "taylor", "reference_merge": True},
]


@pytest.mark.parametrize("options", TRIALS, ids=lambda o: o["growth"] + str(len(o)))
def test_owned_weights_and_old_answers_never_change(options: dict[str, Any]) -> None:
    strategy = set_up(**options)
    owned: dict[str, Tensor] = {}
    values: dict[str, Tensor] = {}
    settle = strategy.settle

    def watched() -> None:
        settle()
        for name, weight in strategy.weights().items():
            mask = strategy.mask[name]
            assert not weight.detach()[~mask].any()
            if owned:
                kept = owned[name] & mask
                same = weight.detach()[kept] == values[name][kept]
                # The reference lets a weight that came back train as zero.
                regrown = weight.detach()[kept] == 0
                assert (same | (regrown & strategy.config.reference_merge)).all()

    strategy.settle = watched
    answers: list[Tensor] = []
    for index in range(3):
        strategy.train(task(index))
        if owned:
            for name, dense in strategy.dense.items():
                assert torch.equal(dense[owned[name]], values[name][owned[name]])
        owned = {n: o.clone() for n, o in strategy.owned.items()}
        values = {n: d.clone() for n, d in strategy.dense.items()}
        answers.append(answer(strategy, index))
        for old in range(index + 1):
            assert torch.equal(answer(strategy, old), answers[old]), (index, old)
    union = {n: torch.stack([m[n] for m in strategy.masks]).any(0) for n in owned}
    assert all(torch.equal(union[n], owned[n]) for n in owned)
    assert all(bool((strategy.dense[n][~o] == 0).all()) for n, o in owned.items())


@pytest.mark.parametrize("init", ["uniform", "erk"])
def test_realised_densities_match_the_requested_ones(init: str) -> None:
    strategy = set_up(init=init, density=0.2)
    strategy.begin(task(0))
    weights = strategy.weights()
    shapes = [tuple(w.shape) for w in weights.values()]
    wanted = sparse.erk_densities(shapes, 0.2) if init == "erk" else [0.2] * len(shapes)
    for (name, weight), density in zip(weights.items(), wanted, strict=True):
        n, on = weight.numel(), int(strategy.mask[name].sum())
        assert abs(on - n * density) <= 5 * math.sqrt(n * density * (1 - density)) + 1e-9, name


@given(
    st.lists(
        st.tuples(*[st.integers(1, 40)] * 2, *[st.sampled_from([1, 3])] * 2), min_size=1, max_size=6
    ),
    st.floats(0.01, 0.99),
)
@settings(max_examples=60, deadline=None)
def test_erk_keeps_the_whole_density_and_never_exceeds_a_layer(shapes: Any, density: float) -> None:
    found = sparse.erk_densities(shapes, density)
    sizes = [math.prod(s) for s in shapes]
    assert all(0 <= d <= 1 for d in found)
    total = sum(n * d for n, d in zip(sizes, found, strict=True))
    assert total == pytest.approx(density * sum(sizes), rel=1e-9)
    # Below the cap densities are proportional to sum / product of the shape.
    open_ = [d * math.prod(s) / sum(s) for d, s in zip(found, shapes, strict=True) if d < 1]
    assert not open_ or max(open_) == pytest.approx(min(open_), rel=1e-9)


@given(st.integers(0, 2**31), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_pruning_and_growing_keep_the_count(seed: int, rate: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(7, 9, generator=generator) < 0.5
    weight = torch.randn(7, 9, generator=generator) * mask
    score = torch.rand(7, 9, generator=generator)
    kept = sparse.prune_magnitude(weight, mask, rate)
    doomed = math.ceil(rate * int(mask.sum()))
    assert not (kept & ~mask).any() and int(mask.sum() - kept.sum()) == doomed
    if kept.any() and doomed:
        assert weight[kept].abs().min() > weight[mask & ~kept].abs().max()
    grown = sparse.grow_scored(kept, score, doomed)
    new = grown & ~kept
    assert int(grown.sum()) == int(mask.sum()) and (grown & kept).equal(kept)
    if doomed and (~grown).any():
        assert score[new].min() >= score[~grown].max()
    fired = mask | (torch.rand(7, 9, generator=generator) < 0.3)
    order = torch.randperm(int((~fired).sum()), generator=generator)
    fresh = sparse.grow_unfired(kept, fired, doomed, order, torch.ones(7, 9)) & ~kept
    assert not (fresh & fired).any()
    assert int(fresh.sum()) == min(doomed, int((~fired).sum()))


def test_a_state_inside_a_task_continues_to_the_same_bits() -> None:
    whole, states = set_up(growth="momentum"), []
    whole.train(task(0))

    def save() -> None:
        if len(states) < 3:
            states.append(copy.deepcopy(whole.state_dict()))

    whole.train(task(1, safe_point=save))
    again = set_up(growth="momentum")
    again.load_state_dict(states[-1])
    again.train(task(1))
    assert all(torch.equal(again.dense[n], d) for n, d in whole.dense.items())
    assert all(torch.equal(again.masks[1][n], m) for n, m in whole.masks[1].items())
    assert torch.equal(answer(again, 0), answer(whole, 0))


def test_costs_tell_densities_and_overlap() -> None:
    strategy = set_up(density=0.3, update_every=10**6)
    for index in range(2):
        strategy.train(task(index))
    flat = [torch.cat([m.flatten() for m in masks.values()]) for masks in strategy.masks]
    costs = strategy.costs()
    assert costs["density_1"] == pytest.approx(float(flat[1].float().mean()))
    assert costs["owned_share"] == pytest.approx(float((flat[0] | flat[1]).float().mean()))
    both = float((flat[0] & flat[1]).sum())
    mean = (both / int(flat[0].sum()) + both / int(flat[1].sum())) / 2
    assert costs["mean_overlap"] == pytest.approx(mean)
    # Independent masks: a task finds about its own density owned.
    assert costs["mean_overlap"] == pytest.approx(0.3, abs=0.05)


def test_reference_merge_refuses_weight_decay() -> None:
    with pytest.raises(BadConfig, match="weight_decay"):
        set_up(reference_merge=True, weight_decay=0.1)


def test_nothing_is_forgotten_in_a_run(tmp_path: Any) -> None:
    options = {"epochs": 2, "lr": 0.01, "density": 0.5, "update_every": 10}
    request = Request(
        "dst", "task-digits", strategy_config=options, out=tmp_path / "run", threads=1
    )
    record = run(request)
    matrix = record.result.accuracy_matrix
    assert all(row[j] == matrix[j][j] for row in matrix for j in range(5) if row[j] is not None)
    assert record.result.forgetting == 0
    assert record.result.last_accuracy > 0.8
    assert 0.4 < record.cost.own["density_4"] < 0.6


def test_all_seen_columns_may_compete_as_in_the_authors_code(tmp_path: Any) -> None:
    options = {"epochs": 1, "lr": 0.01, "density": 0.5, "eval_logits": "all"}
    request = Request(
        "dst",
        "task-digits",
        strategy_config=options,
        scenario_config={"compete": "seen"},
        out=tmp_path / "run",
        threads=1,
    )
    result = run(request).result
    assert result.last_accuracy < (result.task_aware_accuracy_after[-1] or 0)
