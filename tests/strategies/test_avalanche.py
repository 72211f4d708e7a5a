"""Avalanche's strategies: which run on which kind of stream, and that they do there what they did.

The tables are the claim; the tests hold them to it.
"""

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils.classification_dataset import (
    _make_taskaware_classification_dataset as as_dataset,
)
from avalanche.training import EWC, LwF, SynapticIntelligence
from avalanche.training.plugins import EvaluationPlugin

from clgym import registry
from clgym.avalanche.catalogue import RECIPES, REFUSED
from clgym.config import build, fields_of
from clgym.errors import BadConfig, Incompatible, UnknownName
from clgym.learner.state import read_state, write_state
from clgym.strategy import Batch, Strategy

SETTINGS = ("class-incremental", "task-incremental", "domain-incremental")
EVERYWHERE = {
    "AGEM", "CWRStar", "CoPE", "Cumulative", "DER", "ER_ACE", "EWC", "FromScratchTraining", "GDumb",
    "GEM", "GSS_greedy", "JointTraining", "LFL", "LwF", "MAS", "MER", "MIR", "Naive", "Replay",
    "SCR", "StreamingLDA", "SynapticIntelligence",
}  # fmt: skip
NOT_DOMAIN_INCREMENTAL = {
    "BiC": "its bias layer knows a class by the experience that brought it",
    "ICaRL": "it gives each experience's classes an exemplar set once",
}
TASK_INCREMENTAL_ONLY = {"PackNet"}
NOWHERE = set(REFUSED)
RESUMED_BIT_FOR_BIT = EVERYWHERE | set(NOT_DOMAIN_INCREMENTAL) | TASK_INCREMENTAL_ONLY
"""Resumed at an experience's boundary; inside one, the experience is trained again."""


def strategy_class(name):
    return registry.load_class(registry.find("strategies", f"avalanche:{name}"), Strategy)


def options_for(name):
    options: dict[str, Any] = {"memory_size": 60} if RECIPES[name].memory else {}
    if name == "GSS_greedy":
        options["batch_size"] = 10
    if name == "BiC":
        options["stage_2_epochs"] = 2
    if RECIPES[name].sgd:
        options["momentum"] = 0.9
    return options


def train(strategy, experience):
    """As the gym's learner does: the global generators are keyed by the experience."""
    torch.manual_seed(experience.index)
    np.random.seed(experience.index)
    random.seed(experience.index)
    strategy.train(experience)
    experience.close()


def test_the_tables_are_complete():
    entry = registry.entries("strategies")["avalanche"]
    runnable = EVERYWHERE | set(NOT_DOMAIN_INCREMENTAL) | TASK_INCREMENTAL_ONLY
    assert set(entry.variants) == runnable | NOWHERE
    assert set(RECIPES) == runnable


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_an_avalanche_strategy_trains_and_predicts(experiences, learner, name, setting):
    cls = strategy_class(name)
    strategy = learner(cls, setting, **options_for(name))
    assert (setting in strategy.needs.settings) == (
        name in EVERYWHERE
        or (name in NOT_DOMAIN_INCREMENTAL and setting != "domain-incremental")
        or setting == "task-incremental"
    )
    if setting not in strategy.needs.settings:
        return
    images = torch.rand(5, 1, 6, 6)
    answers = []
    for experience in experiences(setting):
        train(strategy, experience)
        with torch.no_grad():
            answer = strategy.predict(Batch(images, task=experience.task))
            again = strategy.predict(Batch(images, task=experience.task))
        assert answer.shape == (5, experience.columns) and not answer.isnan().any()
        assert torch.equal(answer, again)
        assert len(strategy.info.memory) <= strategy.needs.memory
        assert RECIPES[name].memory == (len(strategy.info.memory) > 0)
        answers.append(answer)
    if name != "CoPE":  # it answers with the nearest prototype only
        assert not torch.equal(answers[0], answers[-1][:, : answers[0].shape[1]])


@pytest.mark.parametrize("setting", SETTINGS[:2])
@pytest.mark.parametrize("name", sorted(RESUMED_BIT_FOR_BIT))
def test_an_avalanche_strategy_resumes_bit_for_bit(experiences, learner, name, setting, tmp_path):
    """Through the file format of states, before every experience but the first."""
    cls, options = strategy_class(name), options_for(name)
    if name in TASK_INCREMENTAL_ONLY and setting != "task-incremental":
        return
    whole, cut = learner(cls, setting, **options), learner(cls, setting, **options)
    images = torch.rand(20, 1, 6, 6)
    for experience in experiences(setting):
        train(whole, experience)
    for experience in experiences(setting):
        train(cut, experience)
        state = {"s": cut.state_dict(), "m": cut.info.memory.state_dict()}
        write_state(tmp_path / "state", state)
        state = read_state(tmp_path / "state")
        cut = learner(cls, setting, **options)
        cut.info.memory.load_state_dict(state["m"], torch.device("cpu"))
        cut.load_state_dict(state["s"])
    for task in range(3) if setting == "task-incremental" else (None,):
        batch = Batch(images, task=task)
        with torch.no_grad():
            assert torch.equal(whole.predict(batch), cut.predict(batch))


def test_the_network_of_a_restored_strategy_is_the_one_that_answers(experiences, learner):
    """A test-time method adapts it, and a finished run gives it as a backbone."""
    cls, options = strategy_class("EWC"), options_for("EWC")
    strategy, again = learner(cls, **options), learner(cls, **options)
    (experience,) = experiences(steps=1)
    train(strategy, experience)
    again.load_state_dict(strategy.state_dict())
    images = torch.rand(5, 1, 6, 6)
    with torch.no_grad():
        answer = again.network.eval()(images)[:, : again.seen]
        assert torch.equal(answer, strategy.predict(Batch(images)))


@pytest.mark.parametrize("name", sorted(NOWHERE))
def test_an_unsupported_avalanche_strategy_is_refused_with_the_reason(name):
    with pytest.raises(Incompatible, match=name):
        strategy_class(name)


def test_an_unknown_avalanche_strategy_is_refused():
    with pytest.raises(UnknownName, match="EWC"):
        registry.find("strategies", "avalanche:EWCC")


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_options_of_an_avalanche_strategy_are_those_of_its_constructor(name):
    fields = {f.name: f for f in fields_of(strategy_class(name).Config)}
    assert all(f.help for f in fields.values())
    assert ("memory_size" in fields) == RECIPES[name].memory
    assert ("lr" in fields) == RECIPES[name].sgd
    assert not any(f.required for f in fields.values())


def test_bounds_are_checked():
    with pytest.raises(BadConfig, match="ewc_lambda"):
        build(strategy_class("EWC").Config, {"ewc_lambda": -1}, "avalanche:EWC")
    assert build(strategy_class("BiC").Config, {}, "x").stage_2_lr == 0.1


def test_repeated_classes_are_refused_where_they_must_not_be(experiences, learner):
    strategy = learner(strategy_class("ICaRL"), memory_size=12)
    first, _, _ = experiences()
    train(strategy, first)
    again, _, _ = experiences()
    again.index = 1
    with pytest.raises(Incompatible, match="new classes only"):
        strategy.train(again)


def test_a_full_memory_is_shared_equally(experiences, learner):
    for name in ("GEM", "AGEM"):
        strategy = learner(strategy_class(name), memory_size=30, patterns_per_exp=20)
        sizes = []
        for experience in experiences():
            train(strategy, experience)
            sizes.append(len(strategy.info.memory))
        assert sizes == [20, 30, 30]


STOCK = {
    "EWC": (EWC, {"ewc_lambda": 100.0}),
    "LwF": (LwF, {"alpha": 1.0, "temperature": 2.0}),
    "SynapticIntelligence": (SynapticIntelligence, {"si_lambda": 0.1}),
}


@pytest.mark.parametrize("name", STOCK)
def test_it_does_what_avalanche_does(experiences, learner, name, monkeypatch):
    """Same rows in the same order, same network: the same bits as the stock class and loop."""
    from clgym.strategy import Experience

    in_order = Experience.batches
    monkeypatch.setattr(
        Experience,
        "batches",
        lambda self, size, **k: in_order(self, size, **{**k, "shuffle": False}),
    )
    ours = learner(strategy_class(name), "domain-incremental", lr=0.1, epochs=2)
    model = copy.deepcopy(ours.network)
    model.grow(4)
    cls, options = STOCK[name]
    stock = cls(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        criterion=torch.nn.CrossEntropyLoss(),
        train_mb_size=32,
        train_epochs=2,
        evaluator=EvaluationPlugin(loggers=[]),
        **options,
    )
    ours.template.model.grow(4)
    ours.template.model.load_state_dict(model.state_dict())
    datasets = []
    for experience in experiences("domain-incremental"):
        samples: Any = [
            (experience.to_float(x), int(y))
            for x, y in zip(experience.pixels, experience.labels, strict=True)
        ]
        datasets.append(as_dataset(samples, targets=[y for _, y in samples], task_labels=0))
    bench: Any = benchmark_from_datasets(train=datasets)
    for mine, theirs in zip(experiences("domain-incremental"), bench.train_stream, strict=True):
        theirs.classes_in_this_experience = theirs.classes_seen_so_far = [0, 1, 2, 3]
        train(ours, mine)
        stock.train(theirs, shuffle=False)
    for key, value in stock.model.state_dict().items():
        assert torch.equal(ours.template.model.state_dict()[key], value), key


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_stored_exemplars_are_the_buffers(experiences, learner):
    strategy = learner(strategy_class("Replay"), memory_size=20)
    for experience in experiences():
        train(strategy, experience)
    buffer = strategy.template.plugins[0].storage_policy.buffer
    found = sorted(tuple((buffer[i][0] * 255).round().flatten().tolist()) for i in range(20))
    held = sorted(tuple(p.flatten().float().tolist()) for p in strategy.info.memory["pixels"])
    assert found == held
