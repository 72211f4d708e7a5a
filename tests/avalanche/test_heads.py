"""Task-incremental streams: a head for every task, losses over the task's own classes."""

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets, with_classes_timeline
from avalanche.benchmarks.scenarios.task_aware import with_task_labels
from avalanche.benchmarks.utils.classification_dataset import (
    _make_taskaware_classification_dataset as as_dataset,
)
from avalanche.models import MultiHeadClassifier, MultiTaskModule
from avalanche.models.packnet import PackNetModel, PackNetPlugin
from avalanche.training import AGEM, EWC, GEM, MAS, LwF, Naive, SynapticIntelligence
from avalanche.training.plugins import EvaluationPlugin
from torch import nn
from torch.nn.functional import cross_entropy

from clgym import registry
from clgym.api import make_strategy
from clgym.avalanche import SGDStrategy
from clgym.avalanche.adapter import adapt
from clgym.avalanche.catalogue import RECIPES
from clgym.avalanche.heads import MASK, TaskNetwork, with_heads
from clgym.config import fields_of
from clgym.errors import ClgymError, Incompatible
from clgym.models import networks
from clgym.strategy import Batch, Experience, Memory, Strategy, StreamInfo

TASKS = "task-incremental"


@pytest.fixture
def in_order(monkeypatch):
    """Batches in the stored order, as a stock loader gives them without shuffling."""
    batches = Experience.batches
    monkeypatch.setattr(
        Experience,
        "batches",
        lambda self, size, **k: batches(self, size, **{**k, "shuffle": False}),
    )


def seed(number):
    for seeded in (torch.manual_seed, np.random.seed, random.seed):
        seeded(number)


# --- Avalanche's own -----------------------------------------------------------------------------


class StockNetwork(MultiTaskModule):
    """As in Avalanche's examples of task-incremental learning: a body, and its multi-head layer."""

    def __init__(self, network, width):
        super().__init__()
        self.body, self.mean, self.std = network.backbone, network.mean, network.std
        self.classifier = MultiHeadClassifier(width)

    def get_features(self, x):
        return self.body((x - self.mean) / self.std)

    def forward_single_task(self, x, task_label):
        return self.classifier(self.get_features(x), task_label)


def stock_stream(experiences):
    """Each task's classes are 0 and 1, as in those examples."""
    datasets = []
    for experience in experiences:
        labels = experience.labels - min(experience.classes)
        images = experience.to_float(experience.pixels)
        samples: Any = [(x, int(y)) for x, y in zip(images, labels, strict=True)]
        datasets.append(as_dataset(samples, targets=labels.tolist(), task_labels=experience.task))
    bench: Any = with_task_labels(with_classes_timeline(benchmark_from_datasets(train=datasets)))
    for experience in bench.train_stream:
        experience.classes_in_this_experience = sorted(experience.classes_in_this_experience)
        yield experience


STOCK = {
    "Naive": (Naive, {}),
    "EWC": (EWC, {"ewc_lambda": 100.0}),
    "LwF": (LwF, {"alpha": 1.0, "temperature": 2.0}),
    "SynapticIntelligence": (SynapticIntelligence, {"si_lambda": 0.1}),
    "MAS": (MAS, {"lambda_reg": 1.0, "alpha": 0.5}),
    "GEM": (GEM, {"patterns_per_exp": 48, "memory_strength": 0.5}),
    "AGEM": (AGEM, {"patterns_per_exp": 48, "sample_size": 96}),
}
ROUNDED = {"LwF", "MAS", "GEM", "AGEM"}
"""Gradients are summed in another order: of a memory, of all heads at once, beside masks."""


@pytest.mark.parametrize("name", STOCK)
def test_it_trains_as_avalanches_own_multi_head_example(experiences, learner, in_order, name):
    """The same rows in the same order, the same weights at first: the same weights at last."""
    cls, options = STOCK[name]
    ours_only = {"memory_size": 3 * 48} if RECIPES[name].memory else {}
    ours = learner(adapt(name), TASKS, lr=0.1, epochs=2, **options, **ours_only)
    stock_network: Any = StockNetwork(copy.deepcopy(ours.network), ours.network.width)
    ours.network.add(0, (0, 1))
    first = stock_network.classifier.classifiers["0"].classifier
    ours.network.heads["0"].load_state_dict(first.state_dict())
    stock = cls(
        model=stock_network,
        optimizer=torch.optim.SGD(stock_network.parameters(), 0.1),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=32,
        train_epochs=2,
        evaluator=EvaluationPlugin(loggers=[]),
        **options,
    )
    for mine, theirs in zip(experiences(TASKS), stock_stream(experiences(TASKS)), strict=True):
        seed(mine.index)
        ours.train(mine)
        seed(mine.index)
        stock.train(theirs, shuffle=False)
    atol = 1e-6 if name in ROUNDED else 0.0
    for key, value in stock_network.body.state_dict().items():
        mine = ours.network.backbone.state_dict()[key]
        assert torch.allclose(mine, value, rtol=0, atol=atol), key
    for task, head in stock_network.classifier.classifiers.items():
        for key, value in head.classifier.state_dict().items():
            mine = ours.network.heads[task].state_dict()[key]
            assert torch.allclose(mine, value, rtol=0, atol=atol), (task, key)


class StockPacked(PackNetModel):
    """Avalanche's PackNet around the body, its multi-head layer on top, as the paper has heads."""

    def __init__(self, network, width):
        super().__init__(network.backbone)
        self.mean, self.std = network.mean, network.std
        self.classifier = MultiHeadClassifier(width)

    def forward(self, input, task_id):
        features = super().forward((input - self.mean) / self.std, task_id)
        return self.classifier(features, int(task_id[0]))


def test_packnet_trains_as_avalanches_own(experiences, learner, in_order):
    options = {"epochs": 4, "post_prune_epochs": 2, "prune_proportion": 0.6}
    ours = learner(adapt("PackNet"), TASKS, lr=0.1, momentum=0.9, **options)
    body: Any = networks.build("mlp", (1, 6, 6), 1, (0.4,), (0.2,))
    layer: Any = ours.network.backbone[1].wrappee
    body.backbone[1].load_state_dict(layer.state_dict())
    model = StockPacked(body, ours.network.width)
    ours.network.add(0, (0, 1))
    first: Any = model.classifier.classifiers["0"]
    ours.network.heads["0"].load_state_dict(first.classifier.state_dict())
    stock = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.1, momentum=0.9),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=32,
        train_epochs=4,
        evaluator=EvaluationPlugin(loggers=[]),
        plugins=[PackNetPlugin(2, 0.6)],  # type: ignore[list-item]
    )
    for mine, theirs in zip(experiences(TASKS), stock_stream(experiences(TASKS)), strict=True):
        seed(mine.index)
        ours.train(mine)
        seed(mine.index)
        stock.train(theirs, shuffle=False)
    packed = ours.template.model.wrappee.backbone.state_dict()
    assert any("task_index" in key for key in packed)
    for key, value in model.wrappee.state_dict().items():
        assert torch.equal(packed[key], value), key
    for task, head in model.classifier.classifiers.items():
        for key, value in head.classifier.state_dict().items():  # type: ignore[union-attr]
            assert torch.equal(ours.network.heads[task].state_dict()[key], value), (task, key)


def test_packnet_never_changes_an_earlier_task(experiences, learner):
    strategy = learner(adapt("PackNet"), TASKS, epochs=4, post_prune_epochs=2, momentum=0.9)
    images, answers = torch.rand(9, 1, 6, 6), []
    for experience in experiences(TASKS):
        strategy.train(experience)
        with torch.no_grad():
            found = [strategy.predict(Batch(images, task=t)) for t in range(experience.index + 1)]
        for before, now in zip(answers, found, strict=False):
            assert torch.equal(now[:, : before.shape[1]], before)
        answers = found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_decay": 0.1}, "no weight decay"),
        ({"epochs": 3, "post_prune_epochs": 3}, "before and one after the pruning"),
        ({"network": "slim-resnet18"}, "without normalisation"),
    ],
)
def test_packnet_refuses_what_it_cannot_do(learner, options, message):
    with pytest.raises(ClgymError, match=message):
        learner(adapt("PackNet"), TASKS, **options)


def test_lwf_distils_every_task(experiences, learner):
    """By task label: with one head it matched the first task alone, whatever came after."""
    strategy = learner(adapt("LwF"), TASKS)
    for experience in experiences(TASKS):
        strategy.train(experience)
        plugin = strategy.template.plugins[0]
        known = plugin.lwf.prev_classes_by_task
        assert known == {t: {2 * t, 2 * t + 1} for t in range(experience.index + 1)}
        assert set(plugin.lwf.prev_model.own) == set(known)


@pytest.mark.parametrize("name", sorted(n for n, r in RECIPES.items() if r.multi_head))
def test_samples_are_answered_for_by_their_own_task(experiences, learner, name, monkeypatch):
    """New ones and those of memories: else a label's logit were `MASK`, and the loss near 1000."""
    memory = {"memory_size": 60} if RECIPES[name].memory else {}
    strategy = learner(adapt(name), TASKS, **memory)
    forward, answered, losses = type(strategy.network).forward, set(), []

    def watched(self, images, task_labels=None):
        answers = forward(self, images, task_labels)
        if isinstance(task_labels, torch.Tensor):
            columns = [tuple((out > MASK).nonzero().flatten().tolist()) for out in answers]
            answered.update(zip(task_labels.tolist(), columns, strict=True))
        return answers

    monkeypatch.setattr(type(strategy.network), "forward", watched)
    for experience in experiences(TASKS, report=lambda event: losses.append(event["loss"])):
        seed(experience.index)
        strategy.train(experience)
        experience.close()
    assert answered == {(t, (2 * t, 2 * t + 1)) for t in range(3)}
    assert losses and max(losses) < 50


def test_those_that_know_no_tasks_have_one_head(experiences, learner):
    for name, recipe in RECIPES.items():
        assert ("heads" in {f.name for f in fields_of(adapt(name).Config)}) == recipe.multi_head
    strategy = learner(adapt("DER"), TASKS, memory_size=20)
    assert not isinstance(strategy.network, TaskNetwork)


# --- ours ----------------------------------------------------------------------------------------


def bare_multi_head(network, width, stream, epochs, size, lr, decay):
    """A body and a list of heads with nothing but PyTorch; labels within the task."""
    heads = []
    for experience in stream:
        torch.manual_seed(experience.index)
        head = nn.Linear(width, len(experience.classes))
        heads.append(head)
        parameters = [*network.backbone.parameters(), *(p for h in heads for p in h.parameters())]
        optimizer = torch.optim.SGD(parameters, lr, weight_decay=decay)
        for epoch in range(epochs):
            order = torch.randperm(len(experience), generator=experience.generator(epoch))
            for rows in order.split(size):
                images = experience.to_float(experience.pixels[rows])
                labels = experience.labels[rows] - min(experience.classes)
                optimizer.zero_grad()
                cross_entropy(head(network.features(images)), labels).backward()
                optimizer.step()
    return heads


def test_per_task_heads_equal_a_bare_multi_head_network(experiences, learner):
    strategy = learner(SGDStrategy, TASKS, epochs=2, batch_size=20, lr=0.1, weight_decay=0.01)
    bare = networks.build("mlp", (1, 6, 6), 1, (0.4,), (0.2,))
    bare.backbone.load_state_dict(strategy.network.backbone.state_dict())
    for experience in experiences(TASKS):
        torch.manual_seed(experience.index)
        strategy.train(experience)
    heads = bare_multi_head(bare, 100, experiences(TASKS), 2, 20, 0.1, 0.01)
    for key, value in bare.backbone.state_dict().items():
        assert torch.equal(strategy.network.backbone.state_dict()[key], value), key
    images = torch.rand(7, 1, 6, 6)
    for task, head in enumerate(heads):
        wanted = head(bare.features(images))
        answer = strategy.predict(Batch(images, task=task))
        assert torch.equal(answer[:, 2 * task : 2 * task + 2], wanted)
        assert (answer > MASK).sum() == wanted.numel()


@pytest.mark.parametrize("heads", ["per-task", "shared-masked", "shared"])
def test_what_is_in_the_loss(experiences, learner, heads):
    """The second task's first loss, in NumPy: over its own two classes, or over all four."""
    strategy = learner(SGDStrategy, TASKS, heads=heads, batch_size=48)
    first, second = experiences(TASKS, steps=2)
    strategy.train(first)
    losses, loss = [], strategy.loss

    def watched(logits, labels):
        losses.append(
            (logits.detach().double().numpy(), labels.numpy(), float(loss(logits, labels)))
        )
        return loss(logits, labels)

    strategy.template._criterion = watched
    strategy.train(second)
    logits, labels, value = losses[0]
    columns = [0, 1, 2, 3] if heads == "shared" else [2, 3]
    powers = np.exp(logits[:, columns])
    wanted = -np.log(np.exp(logits[np.arange(48), labels]) / powers.sum(1)).mean()
    assert value == pytest.approx(wanted, rel=1e-5)


def test_shared_heads_are_what_class_incremental_streams_train(experiences, learner):
    """And there the option changes nothing."""
    trained = []
    for setting, heads in ((TASKS, "shared"), ("class-incremental", "per-task")):
        strategy = learner(SGDStrategy, setting, heads=heads)
        for experience in experiences(setting):
            torch.manual_seed(experience.index)
            strategy.train(experience)
        trained.append(strategy.network.state_dict())
    assert trained[0].keys() == trained[1].keys()
    assert all(torch.equal(value, trained[1][key]) for key, value in trained[0].items())


@pytest.mark.parametrize("heads", ["per-task", "shared-masked"])
def test_heads_of_other_tasks_keep_their_weights(experiences, learner, heads):
    """Weight decay moves rows of a shared head that no loss reaches; a task's own head rests."""
    strategy = learner(SGDStrategy, TASKS, heads=heads, weight_decay=0.1)
    first, second = experiences(TASKS, steps=2)
    strategy.train(first)
    network = strategy.network
    before = (network.heads["0"] if heads == "per-task" else network.head).weight[:2].clone()
    strategy.train(second)
    after = (network.heads["0"] if heads == "per-task" else network.head).weight[:2]
    assert torch.equal(after, before) == (heads == "per-task")


@pytest.mark.parametrize("heads", ["per-task", "shared-masked"])
def test_a_run_goes_on_inside_a_task(experiences, learner, heads):
    options = {"batch_size": 16, "epochs": 2, "momentum": 0.9, "heads": heads}
    states, whole = [], learner(SGDStrategy, TASKS, **options)

    def save():
        states.append(copy.deepcopy(whole.state_dict()))

    for experience in experiences(TASKS, steps=2, safe_point=save):
        torch.manual_seed(experience.index)
        whole.train(experience)
    for state in (states[2], states[8]):
        resumed = learner(SGDStrategy, TASKS, **options)
        resumed.load_state_dict(state)
        for experience in experiences(TASKS, steps=2):
            if experience.index >= state["position"]["experience"]:
                torch.manual_seed(experience.index)
                resumed.train(experience)
        for key, value in whole.network.state_dict().items():
            assert torch.equal(resumed.network.state_dict()[key], value), key


@pytest.mark.parametrize("name", ["replay", "oewc", "refresh over replay", "refresh over LwF"])
def test_strategies_on_top_know_tasks(experiences, name):
    """Samples of the memory for their own task, the Fisher passes for the present one."""
    bases = {"refresh over replay": "replay", "refresh over LwF": "avalanche:LwF"}
    options = {"base": bases[name]} if name in bases else {}
    strategy: Any = make_strategy(name.split()[0], **options)
    memory, cpu = Memory(strategy.needs.memory), torch.device("cpu")
    info = StreamInfo((1, 6, 6), TASKS, cpu, 0, (0.4,), (0.2,), memory=memory)
    strategy.setup(info)
    losses = []
    for experience in experiences(TASKS, report=lambda event: losses.append(event["loss"])):
        torch.manual_seed(experience.index)
        strategy.train(experience)
    assert max(losses) < 50
    trained = getattr(strategy, "base", strategy)
    assert trained.network.own == {t: (2 * t, 2 * t + 1) for t in range(3)}
    if "replay" in name:
        assert torch.equal(memory["tasks"], memory["labels"] // 2)


def strategy_named(name):
    return registry.load_class(registry.find("strategies", name), Strategy)


def joined_stream(experiences):
    """Each experience with the rows of all before it, as `Needs.past_data` brings them."""
    pixels, labels, columns = [], [], []
    for experience in experiences(TASKS):
        pixels.append(experience.pixels)
        labels.append(experience.labels)
        columns.append(experience.classes)
        yield Experience(
            experience.index,
            torch.cat(pixels),
            torch.cat(labels),
            classes=tuple(c for own in columns for c in own),
            columns=experience.columns,
            seed=0,
            scale=1 / 255,
            task=experience.task,
            task_columns=tuple(columns),
        )


@pytest.mark.parametrize("name", ["joint", "avalanche:JointTraining", "avalanche:Cumulative"])
def test_rows_of_earlier_tasks_keep_their_task(experiences, learner, name):
    strategy = learner(strategy_named(name), TASKS, lr=0.2, epochs=30)
    images, labels = [], []
    for experience in joined_stream(experiences):
        images.append(experience.to_float(experience.pixels))
        labels.append(experience.labels)
        strategy.train(experience)
    for task in range(3):
        rows = labels[-1] // 2 == task
        with torch.no_grad():
            answer = strategy.predict(Batch(images[-1][rows], task=task))
        assert (answer.argmax(1) == labels[-1][rows]).float().mean() > 0.9


def test_a_task_that_comes_again_with_more_classes_keeps_what_it_had():
    network: Any = with_heads(networks.build("mlp", (1, 6, 6), 1), "per-task")
    images = torch.rand(4, 1, 6, 6)
    network.add(0, (0, 3))
    before = network(images)
    network.add(1, (1, 2))
    network.add(0, (0, 3, 5))
    after = network(images)
    assert network.own == {0: (0, 3, 5), 1: (1, 2)}
    assert torch.equal(after[:, [0, 3]], before[:, [0, 3]])
    assert (after[:, [1, 2, 4]] == MASK).all() and (after[:, 5] > MASK).all()
    both = network(images, torch.tensor([0, 1, 1, 0]))
    assert torch.allclose(both[[0, 3]], after[[0, 3]])
    assert torch.allclose(both[1:3], network(images, 1)[1:3])


def test_a_state_of_one_head_is_no_state_of_several(learner, experiences):
    old, new = learner(SGDStrategy, TASKS, heads="shared"), learner(SGDStrategy, TASKS)
    with pytest.raises(Incompatible, match="single head"):
        new.load_state_dict(old.state_dict())


@pytest.mark.slow
def test_a_finished_run_is_a_backbone_and_no_classifier_of_all_classes(tmp_path):
    from clgym.api import run
    from clgym.learner.run_networks import RunNetworks

    record = run("naive", "task-digits", out=tmp_path / "run")
    assert record.result.strategy.config["heads"] == "per-task"
    network = RunNetworks().network(tmp_path / "run" / "state.safetensors")
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 100)
    assert not any("heads" in name for name in network.state_dict())
    with pytest.raises(Incompatible, match="tells all classes apart"):
        RunNetworks().classifier(tmp_path / "run")
