"""Wrappers around SGD strategies: what they leave alone, how they nest, resumption inside them."""

import copy
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from clgym.api import make_strategy
from clgym.avalanche import SupervisedPlugin
from clgym.check import strategy_findings
from clgym.errors import BadConfig, Incompatible
from clgym.learner.assembly import strategy_class
from clgym.models.continual_rates import Infinite, LinearDecay, Place, Power, RepeatedCosine
from clgym.models.merging import trimmed
from clgym.models.norm import reestimate
from clgym.strategy import Batch, Experience, Memory
from factories import stream_info

SHAPE = (1, 8, 8)
DROPS: Any = {"base.lr_drops": (0.5,)}
BATCH: Any = {"base.batch_size": 16}


def experience(index: int, rows: int = 48, shape: tuple[int, int, int] = SHAPE) -> Experience:
    torch.manual_seed(index)
    first = 2 * index
    return Experience(
        index,
        torch.randint(0, 256, (rows, *shape), dtype=torch.uint8),
        torch.arange(rows) % 2 + first,
        classes=(first, first + 1),
        columns=first + 2,
        seed=0,
        scale=1 / 255,
    )


def set_up(strategy: Any, classes: int, shape: tuple[int, int, int] = SHAPE) -> None:
    torch.manual_seed(0)
    needs = strategy.needs
    total = classes if needs.total_classes else None
    strategy.setup(stream_info(shape, total_columns=total, memory=Memory(needs.memory)))


def trained(
    name: str, experiences: int = 2, shape: tuple[int, int, int] = SHAPE, **options: Any
) -> Any:
    """A strategy after some experiences of two classes each."""
    strategy = make_strategy(name, **options)
    set_up(strategy, 2 * experiences, shape)
    for index in range(experiences):
        data = experience(index, shape=shape)
        torch.manual_seed(100 + index)
        strategy.train(data)
        data.close()
    return strategy


def weights(strategy: Any) -> dict[str, Tensor]:
    return (
        strategy.learner.network.state_dict()
        if hasattr(strategy, "learner")
        else (strategy.network.state_dict())
    )


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())


@pytest.mark.parametrize("base", ["naive", "derpp", "oewc", "avalanche:EWC", "avalanche:LwF"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sam", {"rho": 0.0}),
        ("ema", {"start_experience": 9}),
        ("lr-schedule", {"kind": "constant", "hold": "max", "floor": 1.0, "warmup": 0.0}),
        ("rs2", {"fraction": 1.0, "mode": "with-replacement"}),
        ("merge", {"start": "previous"}),
    ],
)
def test_neutral_options_leave_the_base_alone(base: str, name: str, options: Any) -> None:
    count = 1 if name in ("merge", "rs2") else 2
    wrapped = trained(name, count, base=base, **options)
    plain = trained(base, count)
    if name == "rs2":  # the same rows in another order
        assert wrapped.learner.template.feed is plain.template.feed is None
        assert wrapped.learner.position.epoch == plain.position.epoch
        return
    assert same(weights(wrapped), weights(plain))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sam", {"rho": 0.05}),
        ("sam", {"rho": 0.5, "adaptive": True, "loss": "new"}),
        ("ema", {"decay": 0.9}),
        ("ema", {"rule": "released"}),
        ("lr-schedule", {"kind": "infinite"}),
        ("rs2", {"fraction": 0.5}),
        ("reweight", {"sharpness": 0.2}),
        ("merge", {}),
        ("merge", {"method": "ties"}),
    ],
)
def test_each_changes_what_is_learned(name: str, options: Any) -> None:
    plain = trained("replay", 2, memory_size=10)
    wrapped = trained(name, 2, **{"base": "replay", "base.memory_size": 10, **options})
    found = weights(wrapped)
    assert not same(found, weights(plain))
    assert all(value.isfinite().all() for value in found.values())


def test_the_order_of_nesting_is_that_of_the_companions() -> None:
    chain: Any = {"base": "sam", "base.base": "refresh", "base.base.base": "derpp"}
    strategy = trained("ema", 1, **chain)
    found = [type(plugin).__name__ for plugin in strategy.learner.template.plugins[:3]]
    assert found == ["_Average", "_Climb", "Refresher"]


CHAINS = [
    ("sam", {"base": "derpp"}),
    ("ema", {"base": "refresh", "base.base": "derpp", "base.fisher_samples": 8}),
    ("ema", {"base": "sam", "base.base": "oewc", "rule": "released", "start_experience": 0}),
    ("lr-schedule", {"kind": "infinite", "base": "derpp"}),
    ("ema", {"base": "lr-schedule", "base.kind": "wsd", "base.base": "replay"}),
    ("merge", {"base": "replay", "method": "ties", "start": "merged"}),
    ("rs2", {"base": "derpp", "fraction": 0.5, "base.epochs": 3}),
    ("reweight", {"base": "replay", "warmup_steps": 2, "warmup_each": False}),
    ("rate-replay", {"base": "sam", "base.base": "naive", "rate": 0.25}),
    ("reweight", {"base": "avalanche:Replay", "base.memory_size": 10}),
    ("sam", {"base": "ema", "base.base": "avalanche:EWC"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), CHAINS, ids=lambda part: str(part)[:40])
def test_a_chain_goes_on_after_a_kill_inside_an_experience(name: str, options: Any) -> None:
    cls = strategy_class(name)
    small = {f"{key}": value for key, value in options.items()}
    chained = type(cls.__name__, (cls,), {"CHECK_CONFIG": small, "__module__": cls.__module__})
    wanted = ("unseen-classes", "predict-keeps-state", "state-round-trip", "resume", "same-seed")
    found = list(strategy_findings(chained, name=name, summary="A chain.", only=wanted))
    assert [(f.check, f.status, f.found) for f in found if f.status != "passed"] == []


def test_sam_follows_the_gradient_from_uphill() -> None:
    options: Any = {"base.momentum": 0.9, "base.lr": 0.1}
    strategy = trained("sam", 1, rho=0.3, **options)
    reference = make_strategy("naive", momentum=0.9, lr=0.1)
    torch.manual_seed(0)
    reference.setup(stream_info(SHAPE))
    data = experience(0)
    torch.manual_seed(100)
    reference.begin(data)
    net = reference.network.train()
    parameters = list(net.parameters())
    optimizer = torch.optim.SGD(parameters, 0.1, 0.9)
    for batch in data.batches(32):
        kept = [p.detach().clone() for p in parameters]
        first = torch.autograd.grad(cross_entropy(net(batch.images), batch.labels), parameters)
        length = np.sqrt(sum(float(g.double().square().sum()) for g in first))
        with torch.no_grad():
            for p, g in zip(parameters, first, strict=True):
                p += 0.3 / (length + 1e-12) * g
        optimizer.zero_grad()
        cross_entropy(net(batch.images), batch.labels).backward()
        with torch.no_grad():
            for p, value in zip(parameters, kept, strict=True):
                p.copy_(value)
        optimizer.step()
    for name, value in net.state_dict().items():
        torch.testing.assert_close(weights(strategy)[name], value, rtol=1e-5, atol=1e-6)


def test_sam_counts_one_batch_a_step_in_running_statistics() -> None:
    options: Any = {"base.network": "slim-resnet18", "base.batch_size": 16}
    strategy = trained("sam", 1, (3, 32, 32), **options)
    counts = {v.item() for n, v in weights(strategy).items() if n.endswith("num_batches_tracked")}
    assert counts == {3}


def test_a_fixed_average_is_the_closed_form() -> None:
    ema = sys.modules[strategy_class("ema").__module__]
    shadow = ema.Shadow(ema.EMAConfig(decay=0.9))
    shadow.start({"w": torch.zeros(3, dtype=torch.float64)})
    for _ in range(7):
        shadow.update({"w": torch.ones(3, dtype=torch.float64)}, {})
    np.testing.assert_allclose(shadow.weights["w"], 1 - 0.9**7, rtol=1e-12)


def test_a_dynamic_average_records_how_often_it_fell_back() -> None:
    strategy = trained("ema", 3, rule="released")
    assert 0 <= strategy.costs()["fallback_share"] <= 1


def test_training_goes_on_as_if_there_had_been_no_branch() -> None:
    schedule: Any = {"kind": "infinite", "base": "derpp", "base.epochs": 5}
    branched = trained("lr-schedule", 2, annealing=0.4, **schedule)
    never = trained("lr-schedule", 2, annealing=0.0, **schedule)
    main = copy.deepcopy(branched.main)
    assert not same(weights(branched), weights(never))
    branched._load(main)
    assert same(weights(branched), weights(never))
    memory, other = branched.info.memory.columns(), never.info.memory.columns()
    assert all(torch.equal(memory[name], other[name]) for name in other)


def test_a_base_with_drops_has_no_other_schedule() -> None:
    with pytest.raises(Incompatible, match="a schedule of its own"):
        trained("lr-schedule", 1, **DROPS)


def test_a_wrapper_wraps_what_trains_by_sgd() -> None:
    with pytest.raises(Incompatible, match="trains by SGD"):
        trained("ema", 1, base="nmc")


def test_samples_of_a_second_draw_are_weighed_among_themselves() -> None:
    strategy = trained("reweight", 1, base="derpp", sharpness=0.1)
    weigh, module = strategy.companion, sys.modules[type(strategy).__module__]
    torch.manual_seed(3)
    batch = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    weigh._template = SimpleNamespace(n_new=2, mb_y=batch[1])
    losses = cross_entropy(*batch, reduction="none")
    groups = {"new": losses[:2], "old": losses[2:], "all": losses}
    mean = {
        name: (module.weights_of(part, "linupper", 0.1) * part).sum()
        for name, part in groups.items()
    }
    torch.testing.assert_close(weigh.loss(*batch), (2 * mean["new"] + 4 * mean["old"]) / 6)
    drawn = batch[0], batch[1].clone()  # as many as they like: no one of them is new
    torch.testing.assert_close(weigh.loss(*drawn), mean["all"])


def test_a_strategy_of_avalanches_has_its_loss_back_after_an_experience() -> None:
    strategy = trained("reweight", 1, base="avalanche:EWC")
    assert isinstance(strategy.learner.template._criterion, torch.nn.CrossEntropyLoss)


class Rates(SupervisedPlugin):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[float] = []

    def after_update(self, strategy: Any, **_: Any) -> None:
        self.found += {group["lr"] for group in strategy.optimizer.param_groups}


@pytest.mark.parametrize("base", ["derpp", "avalanche:EWC", "avalanche:Replay"])
def test_the_steps_of_every_base_have_the_rates_of_the_schedule(base: str) -> None:
    options: Any = {"base.epochs": 3, "base.batch_size": 16, "warmup": 0.2}
    strategy = make_strategy("lr-schedule", base=base, **options)
    strategy.companions = (rates := Rates(),)
    set_up(strategy, 4)
    for index in (0, 1):
        data = experience(index)
        strategy.train(data)
        data.close()
    peak = strategy.learner.config.lr
    cosine = RepeatedCosine(peak, 0.1 * peak, 0.2)
    assert rates.found == [cosine(Place(k, t, 9, 9 * k)) for k in (0, 1) for t in range(9)]


def test_a_branch_wants_a_base_that_goes_on_inside_an_experience() -> None:
    with pytest.raises(Incompatible, match="starts an experience from its beginning"):
        trained("lr-schedule", 1, kind="infinite", base="avalanche:EWC")
    trained("lr-schedule", 2, kind="infinite", resume="chain", base="avalanche:EWC")


@pytest.mark.parametrize("place", ["", "base."])
def test_an_option_of_another_kind_of_schedule_is_refused(place: str) -> None:
    options: dict[str, Any] = {"base": "lr-schedule"} if place else {}
    options |= {f"{place}kind": "cosine", f"{place}later_peak": 0.5}
    name = "ema" if place else "lr-schedule"
    with pytest.raises(BadConfig, match=f"{place}kind rewarmed-cosine") as raised:
        make_strategy(name, **options)
    assert raised.value.found == f"--{place}later-peak 0.5 with --{place}kind cosine"


def test_two_wrappers_do_not_both_say_where_experiences_begin() -> None:
    branched: Any = {"base": "lr-schedule", "base.kind": "infinite"}
    with pytest.raises(Incompatible, match="weights of its own to go on from"):
        trained("merge", 1, **branched)
    branched["base.resume"] = "chain"
    trained("merge", 2, **branched)


def test_a_wrapper_does_not_wrap_what_trains_in_stages() -> None:
    with pytest.raises(Incompatible, match="in stages of its own"):
        trained("ema", 1, base="icarl")


def test_rate_replay_keeps_steps_and_mixes_by_the_rate() -> None:
    strategy = trained("rate-replay", 1, **{"rate": 0.5, **BATCH})
    assert strategy.sizes == [48]
    old, new = experience(0), experience(1)
    both = Experience(
        1,
        torch.cat([old.pixels, new.pixels]),
        torch.cat([old.labels, new.labels]),
        classes=(0, 1, 2, 3),
        columns=4,
        seed=0,
        scale=1 / 255,
    )
    rows = strategy._rows(both, 0, 48)
    assert len(rows) == 48 and (rows.view(3, 16) < 48).sum(1).tolist() == [8, 8, 8]
    assert rows[rows < 48].tolist() == list(range(24))  # the next in the old order, none twice
    strategy.train(both)
    assert strategy.sizes == [48, 48] and both.images == 48


def test_subsets_show_every_row_once_before_any_twice() -> None:
    rs2 = sys.modules[strategy_class("rs2").__module__]
    subsets = rs2.Subsets(24, 6, "without-replacement", lambda i: torch.Generator().manual_seed(i))
    first = torch.cat([subsets(epoch) for epoch in range(4)])
    assert sorted(first.tolist()) == list(range(24))
    assert torch.equal(subsets(5), subsets(5)) and not torch.equal(subsets(4), subsets(5))


def test_a_budget_of_steps_has_as_many_steps_as_the_base() -> None:
    whole = trained("naive", 1, batch_size=8)
    budget: Any = {"fraction": 0.25, "budget": "steps", "base.batch_size": 4}
    strategy = trained("rs2", 1, **budget)
    assert strategy.learner.config.epochs == 4 * whole.config.epochs


def test_merged_heads_keep_each_row_of_the_network_that_saw_its_class() -> None:
    strategy = trained("merge", 1)
    first = {k: v.clone() for k, v in weights(strategy).items() if k.startswith("head.")}
    data = experience(1)
    strategy.train(data)
    for name, value in first.items():
        assert torch.equal(weights(strategy)[name][: len(value)], value)


def test_an_average_of_body_weights_is_their_mean() -> None:
    strategy = trained("merge", 2, start="previous")
    body = next(n for n in strategy.start if n.endswith("weight"))
    apart = trained("naive", 2)
    first = trained("naive", 1)
    mean = (weights(apart)[body] + weights(first)[body]) / 2
    torch.testing.assert_close(weights(strategy)[body], mean)


def test_trimming_all_of_a_vector_keeps_it() -> None:
    vector = torch.tensor([3.0, -1.0, 2.0])
    assert torch.equal(trimmed(vector, 100.0), vector)
    assert trimmed(vector, 34.0).tolist() == [3.0, 0.0, 2.0]


def test_statistics_are_those_of_the_batches() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    batches = [torch.rand(8, 1, 4, 4) for _ in range(3)]
    reestimate(net, batches)
    maps = [net[0](batch) for batch in batches]
    wanted = torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0)
    torch.testing.assert_close(net[1].running_mean, wanted)
    assert not net.training and net[1].momentum == 0.1


def test_schedules_end_where_they_say() -> None:
    cosine = RepeatedCosine(1.0, 0.1, 0.1)
    for steps in (10, 11, 57):
        rates = [cosine(Place(1, t, steps)) for t in range(steps)]
        assert rates[-1] == pytest.approx(0.1, abs=1e-12) and max(rates) == 1.0
    assert RepeatedCosine(1.0, 0.1, 0.9)(Place(0, 9, 10)) == 0.1  # a lone decay step
    linear = [LinearDecay(1.0, 0.2, 0.2)(Place(0, t, 10)) for t in range(10)]
    assert linear[1] == 1.0 and linear[-1] == pytest.approx(0.2)
    power = [Power(1.0, 0.25, 4)(Place(k, t, 10, 10 * k)) for k in range(9) for t in range(10)]
    assert power[3] == 1.0 and power[15] == 0.5 and power[-1] == 0.25
    assert all(b <= a for a, b in zip(power[3:], power[4:], strict=False))


def test_annealing_ends_at_the_floor_by_equal_ratios() -> None:
    schedule = Infinite(1.0, 0.5, 0.05, 2, 4, 5)
    rates = [schedule.annealed(Place(0, t, 20)) for t in range(15, 20)]
    ratios = np.diff(np.log(rates))
    assert rates[-1] == 0.05 and np.ptp(ratios) < 1e-12


def test_answers_by_head_pass_through_every_wrapper(monkeypatch) -> None:
    """A base with two heads is reported with both, however deep it lies."""
    naive = strategy_class("naive")

    def by_head(self: Any, batch: Batch) -> dict[str, Tensor]:
        logits = self.predict(batch)
        return {"own": logits, "next": logits.roll(1, dims=1)}

    monkeypatch.setattr(naive, "predict_by_head", by_head)
    deeper: Any = {"base.base": "naive"}
    outer = make_strategy("ema", base="sam", **deeper)
    set_up(outer, 4)
    outer.train(experience(0))
    batch = Batch(experience(1).to_float(experience(1).pixels))
    heads = outer.predict_by_head(batch)
    assert torch.equal(heads["own"], outer.predict(batch))
    assert torch.equal(heads["next"], outer.predict(batch).roll(1, dims=1))
