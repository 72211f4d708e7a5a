"""Task-incremental streams: a head for every task, losses over the task's own classes."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import nn
from torch.nn.functional import cross_entropy

from clgym import registry
from clgym.api import make_strategy
from clgym.avalanche import SGDStrategy
from clgym.avalanche.heads import MASK, with_heads
from clgym.errors import BadOutput, Incompatible
from clgym.models import networks
from clgym.strategy import Batch, Experience, Memory, Strategy, torch_generator
from factories import stream_info

TASKS = "task-incremental"


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
            draws = torch_generator(0, "order", experience=experience.index, epoch=epoch)
            order = torch.randperm(len(experience), generator=draws)
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
def test_the_loss_covers_the_task_s_classes_or_all_by_the_option_heads(experiences, learner, heads):
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
            if experience.index >= state["position"]["part"]["experience"]:
                torch.manual_seed(experience.index)
                resumed.train(experience)
        for key, value in whole.network.state_dict().items():
            assert torch.equal(resumed.network.state_dict()[key], value), key


@pytest.mark.parametrize("name", ["replay", "oewc", "refresh over replay", "refresh over LwF"])
def test_strategies_on_top_know_tasks(experiences, name):
    """Samples of the memory for their own task, the Fisher passes for the present one."""
    bases = {"refresh over replay": "replay", "refresh over LwF": "avalanche:LwF"}
    options: dict[str, Any] = {"base": bases[name]} if name in bases else {}
    strategy: Any = make_strategy(name.split()[0], **options)
    memory = Memory(strategy.needs.memory)
    strategy.setup(stream_info((1, 6, 6), TASKS, mean=(0.4,), std=(0.2,), memory=memory))
    losses = []
    for experience in experiences(TASKS, report=lambda event: losses.append(event["loss"])):
        torch.manual_seed(experience.index)
        strategy.train(experience)
    assert max(losses) < 50
    trained = getattr(strategy, "base", strategy)
    assert trained.network.own == {t: (2 * t, 2 * t + 1) for t in range(3)}
    if "replay" in name:
        assert torch.equal(memory["tasks"], memory["labels"] // 2)


@pytest.mark.parametrize("name", ["derpp", "der", "cls-er"])
def test_dark_replay_runs_over_the_classes_of_each_sample_s_task(experiences, learner, name):
    """The losses of the second task in NumPy, from the network before and the draws."""
    strength = {"derpp": {"alpha": 0.3, "beta": 0.7}, "der": {"alpha": 0.3}}.get(
        name, {"strength": 0.3, "stable_rate": 1.0, "plastic_rate": 1.0, "plastic_decay": 0.1}
    )
    strategy = learner(strategy_named(name), TASKS, batch_size=48, replay_batch=9, **strength)
    assert strategy.config.heads == "per-task"
    first, second = experiences(TASKS, steps=2)
    strategy.train(first)
    memory = copy.deepcopy(strategy.info.memory)
    seen = {}

    class Watch(SupervisedPlugin):
        def before_training_iteration(self, template, **_):
            seen["net"] = copy.deepcopy(template.model)
            if name == "cls-er":
                seen["copies"] = copy.deepcopy([strategy.stable, strategy.plastic])

        def after_update(self, template, **_):
            seen["loss"] = float(template.loss.detach())

    strategy.template.plugins.insert(0, Watch())
    strategy.train(second)

    def own(images, labels, model):
        """Logits [n, 2] of each sample's own task, and the labels within it."""
        with torch.no_grad():
            answers = [model(x[None], y // 2)[0] for x, y in zip(images, labels, strict=True)]
        rows = [z[y // 2 * 2 :][:2].double().numpy() for z, y in zip(answers, labels, strict=True)]
        return np.stack(rows), np.array(labels) % 2

    def entropy(logits, inside):
        return (np.log(np.exp(logits).sum(1)) - logits[np.arange(len(inside)), inside]).mean()

    def draw(*name):
        drawn = memory.draw(9, second.generator(*name, epoch=0, step=0))
        labels = drawn.get("labels", torch.zeros(9)).long().tolist()
        return second.to_float(drawn["pixels"]), labels, drawn

    net, x, y = seen["net"], second.to_float(second.pixels), second.labels.tolist()
    images, labels, drawn = draw("replay", *(["logits"] if name == "derpp" else []))
    answers, inside = own(images, labels, net)
    if name == "cls-er":
        z = [own(images, labels, slow)[0] for slow in seen["copies"]]
        sure = [np.exp(v)[np.arange(9), inside] / np.exp(v).sum(1) for v in z]
        wanted = np.where((sure[0] > sure[1])[:, None], z[0], z[1])
        loss = entropy(*own(torch.cat([x, images]), [*y, *labels], net))
    else:
        wanted = drawn["logits"][:, :2].double().numpy()  # all of the first task
        loss = entropy(*own(x, y, net))
    loss += 0.3 * np.square(answers - wanted).mean()
    if name == "derpp":
        images, labels, _ = draw("replay", "labels")
        loss += 0.7 * entropy(*own(images, labels, net))
    assert seen["loss"] == pytest.approx(loss, rel=1e-4)
    for task in range(2):
        answer = strategy.predict(Batch(x, task=task))
        assert answer.shape == (48, 4)
        assert torch.equal((answer[0] > MASK).nonzero().flatten(), torch.arange(2) + 2 * task)


@pytest.mark.parametrize("name", ["derpp", "der", "cls-er"])
@pytest.mark.parametrize("heads", ["per-task", "shared-masked"])
def test_dark_replay_goes_on_from_a_state(experiences, learner, name, heads):
    def trained(strategy, first, end):
        for experience in list(experiences(TASKS))[first:end]:
            torch.manual_seed(experience.index)
            strategy.train(experience)
        return strategy

    whole, early, resumed = (
        learner(strategy_named(name), TASKS, heads=heads, batch_size=16) for _ in range(3)
    )
    trained(whole, 0, 3)
    trained(early, 0, 2)
    held = copy.deepcopy(early.info.memory.state_dict())
    resumed.info.memory.load_state_dict(held, torch.device("cpu"))
    resumed.load_state_dict(copy.deepcopy(early.state_dict()))
    trained(resumed, 2, 3)
    images = torch.rand(5, 1, 6, 6)
    for task in range(3):
        with torch.no_grad():
            answers = [s.predict(Batch(images, task=task)) for s in (whole, resumed)]
        assert torch.equal(*answers)


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
    with pytest.raises(BadOutput, match="fits 'network'"):
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
    with pytest.raises(Incompatible, match="distinguishes all classes"):
        RunNetworks().classifier(tmp_path / "run")
