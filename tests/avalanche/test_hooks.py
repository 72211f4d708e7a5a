"""The hooks of `SGDStrategy`: what they are given, when they are called, and what is saved."""

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from avalanche.training.plugins import EWCPlugin, LwFPlugin, ReplayPlugin, SupervisedPlugin
from torch import Tensor
from torch.nn.functional import cross_entropy

from clgym.avalanche import HeadsConfig, SGDConfig, SGDStrategy
from clgym.avalanche.hooks import MethodHooks
from clgym.avalanche.loop import hooks_of
from clgym.errors import BadPlugin, OutOfReach, Renamed
from clgym.models.networks import Classifier
from clgym.strategy import Batch, Experience, Needs, Stateful, StreamInfo, TrainBatch


@dataclass(frozen=True)
class PullConfig(SGDConfig):
    """Options."""

    strength: float = 0.5
    """Weight."""


class Pull(SGDStrategy[PullConfig]):
    """L2 towards the last weights, written as a penalty."""

    def setup(self, info: StreamInfo) -> None:
        super().setup(info)
        self.old: list[Tensor] = []

    def penalty(self, batch: TrainBatch, logits: Tensor) -> Tensor | None:
        if not self.old:
            return None
        return self.config.strength * _distance(self.network, self.old)

    def after_experience(self, experience: Experience) -> None:
        assert len(experience.pixels) == len(experience)  # the data can be read
        self.old = [p.detach().clone() for p in self.network.parameters()]


class PullByItself(Pull):
    """The same, as a step of its own."""

    def observe(self, batch: TrainBatch) -> Tensor:
        loss = self.loss(self.network(batch.images), batch.labels)
        term = Pull.penalty(self, batch, loss)
        loss = loss if term is None else loss + term
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


def _distance(network: Any, old: list[Tensor]) -> Tensor:
    pairs = zip(network.parameters(), old, strict=True)
    return torch.stack([(p[: len(q)] - q).square().sum() for p, q in pairs]).sum()


def trained(strategy: Any, stream: Any) -> Any:
    for experience in stream:
        torch.manual_seed(experience.index)
        strategy.train(experience)
    return strategy


def same(one: Any, other: Any) -> bool:
    pairs = zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_penalty_is_added_to_the_loss(experiences, learner):
    """One step of the second experience against autograd."""
    strategy = learner(Pull, batch_size=48, lr=0.1, strength=0.7)
    first, second = experiences(steps=2)
    strategy.train(first)
    with torch.no_grad():  # from elsewhere than the old weights, so that the pull has a gradient
        for p in strategy.network.parameters():
            p += 0.05
    strategy.network.grow(4)
    net, old = copy.deepcopy(strategy.network), list(strategy.old)
    strategy.train(second)
    images, labels = second.to_float(second.pixels), second.labels
    loss = cross_entropy(net(images), labels) + 0.7 * _distance(net, old)
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    for p, g, q in zip(net.parameters(), gradients, strategy.network.parameters(), strict=True):
        torch.testing.assert_close(q, p - 0.1 * g)


class KeepsLosses(Pull):
    """Keeps the loss that it computed, before a penalty."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        self.kept = super().loss(logits, labels)
        self.first = self.kept.item()
        return self.kept


@pytest.mark.parametrize("strength", [0.0, 0.7])
def test_a_loss_that_a_strategy_keeps_stays_as_it_is(experiences, learner, strength):
    """What plugins add to the loss of a step is not added to the strategy's own tensor."""
    strategy = learner(KeepsLosses, batch_size=16, epochs=2, strength=strength)
    for experience in experiences(steps=2):
        strategy.train(experience)
    assert strategy.kept.item() == strategy.first


def test_a_step_of_its_own_gives_the_same_bits(experiences, learner):
    options = {"batch_size": 16, "epochs": 2, "momentum": 0.9, "lr_drops": (0.5,)}
    told: list[dict[str, Any]] = []
    plain = trained(learner(Pull, **options), experiences())
    own = trained(learner(PullByItself, **options), experiences(report=told.append))
    assert same(plain, own)
    assert told and all(event["loss"] > 0 for event in told)


class Everything(SGDStrategy[HeadsConfig]):
    """Notes each call."""

    @property
    def needs(self) -> Needs:
        return Needs(memory=10)

    def setup(self, info: StreamInfo) -> None:
        self.calls: list[str] = []
        super().setup(info)

    def plugins(self) -> list[Any]:
        return [Loud(self.calls, "plugin")]

    def begin(self, experience: Experience) -> None:
        super().begin(experience)
        self.calls.append("begin")

    def before_experience(self, experience: Experience) -> None:
        assert self.network.columns >= experience.columns
        self.calls.append("before")

    def rehearse(self, batch: TrainBatch) -> TrainBatch | None:
        assert batch.old is None and batch.new is batch
        self.calls.append("rehearse")
        return self.recall(4)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        assert labels is self.batch.labels
        self.calls.append("loss")
        return super().loss(logits, labels)

    def penalty(self, batch: TrainBatch, logits: Tensor) -> Tensor | None:
        assert logits.requires_grad and len(batch) == len(logits)
        self.calls.append("penalty")
        return None

    def after_step(self, batch: TrainBatch, logits: Tensor) -> None:
        assert not logits.requires_grad
        self.calls.append("step")
        self.remember(batch.new, labels=batch.new.labels, tasks=batch.new.tasks)

    def after_experience(self, experience: Experience) -> None:
        self.calls.append("after")


class Loud(SupervisedPlugin):
    def __init__(self, calls: list[str], name: str) -> None:
        super().__init__()
        self.calls, self.name = calls, name

    def before_training_iteration(self, strategy: Any, **_: Any) -> None:
        self.calls.append(self.name)


def test_hooks_come_between_companions_and_plugins(experiences, learner):
    strategy = learner(Everything, batch_size=24)
    calls = strategy.calls
    strategy.template.plugins.insert(0, Loud(calls, "companion"))
    (experience,) = experiences(steps=1)
    strategy.train(experience)
    step = ["companion", "rehearse", "plugin", "loss", "penalty", "step"]
    assert calls == ["begin", "before", *step, *step, "after"]


@pytest.mark.parametrize("setting", ["class-incremental", "task-incremental"])
def test_old_samples_join_the_new_ones(experiences, learner, setting):
    batches: list[TrainBatch] = []

    class Kept(Everything):
        def penalty(self, batch: TrainBatch, logits: Tensor) -> Tensor | None:
            batches.append(batch)
            return None

    trained(learner(Kept, setting, batch_size=24), experiences(setting, steps=2))
    assert batches[0].old is None  # the memory was empty
    for batch in batches[1:]:
        new, old = batch.new, batch.old
        assert old is not None and len(new) == 24 and len(old) == 4
        for name in ("images", "labels", "tasks"):
            parts = [getattr(part, name) for part in (new, old)]
            assert torch.equal(getattr(batch, name), torch.cat(parts)), name
        assert torch.equal((new.pixels * (1 / 255)).float(), new.images)
        assert torch.equal(old["labels"], old.labels)
        if setting == "task-incremental":
            assert torch.equal(batch.tasks, batch.labels // 2)


def test_what_is_not_overridden_is_not_called(experiences, learner):
    bare = learner(SGDStrategy).template
    hooks = next(p for p in bare.plugins if isinstance(p, MethodHooks))
    for event in ("before_training_iteration", "before_backward", "after_training_iteration"):
        owners = [hook.__self__ for hook in hooks_of(bare, event)]  # type: ignore[attr-defined]
        assert hooks not in owners
    template = learner(Pull).template
    (hook,) = hooks_of(template, "before_backward")
    assert hook.__self__.__class__ is MethodHooks  # type: ignore[attr-defined]
    assert template.observe is None


def test_draws_have_the_streams_of_their_names(experiences, learner):
    drawn: list[Tensor] = []

    class Draws(SGDStrategy[SGDConfig]):
        def before_experience(self, experience: Experience) -> None:
            drawn.append(torch.rand(2, generator=self.rng("once")))

        def after_step(self, batch: TrainBatch, logits: Tensor) -> None:
            drawn.append(torch.rand(2, generator=self.rng("mask", "upper")))

    (experience,) = experiences(steps=1)
    strategy = learner(Draws, batch_size=24, epochs=2)
    strategy.train(experience)
    wanted = [experience.generator("once")]
    wanted += [
        experience.generator("mask", "upper", epoch=epoch, step=step)
        for epoch in (0, 1)
        for step in (0, 1)
    ]
    assert torch.equal(
        torch.stack(drawn), torch.stack([torch.rand(2, generator=g) for g in wanted])
    )
    with pytest.raises(BadPlugin, match="a call outside of train"):
        strategy.rng("mask")
    with pytest.raises(Renamed, match=r"self\.rng"):
        strategy.generator("mask")


@pytest.mark.parametrize("plugin", [EWCPlugin(1.0), LwFPlugin(), ReplayPlugin(9)])
def test_a_plugin_of_avalanche_without_state_is_refused_at_setup(learner, plugin):
    class Plugged(SGDStrategy[SGDConfig]):
        def plugins(self) -> list[Any]:
            return [plugin]

    with pytest.raises(BadPlugin, match=f"{type(plugin).__name__}, which has no state_dict"):
        learner(Plugged)


class Average(SupervisedPlugin):
    """An own plugin without state_dict: a running mean of the loss, which scales it."""

    def __init__(self, owner: Any) -> None:
        super().__init__()
        self.owner, self.mean, self.seen = owner, None, {"steps": 0}

    def before_backward(self, strategy: Any, **_: Any) -> None:
        loss = strategy.loss.detach()
        self.mean = loss if self.mean is None else 0.9 * self.mean + 0.1 * loss
        self.seen["steps"] += 1
        strategy.loss = strategy.loss / self.mean


class Bank(Stateful, SupervisedPlugin):
    """The last logits' mean; kept as an attribute of the strategy."""

    def __init__(self) -> None:
        super().__init__()
        self.means: dict[int, Tensor] = {}

    def after_forward(self, strategy: Any, **_: Any) -> None:
        self.means[0] = strategy.mb_output.detach().mean()


class WithPlugins(SGDStrategy[SGDConfig]):
    def plugins(self) -> list[Any]:
        self.bank, self.average = Bank(), Average(self)
        return [self.average, self.bank]


@pytest.mark.parametrize("stop", [1, 4, 8])
def test_own_plugins_go_on_from_a_state(experiences, learner, stop):
    options = {"batch_size": 16, "epochs": 2, "momentum": 0.9}
    states: list[Any] = []
    whole = learner(WithPlugins, **options)

    def save() -> None:
        states.append(copy.deepcopy(whole.state_dict()))

    trained(whole, experiences(steps=2, safe_point=save))
    again = learner(WithPlugins, **options)
    again.load_state_dict(states[stop])
    for experience in experiences(steps=2):
        if experience.index >= again.position.experience or again.position.experience < 0:
            torch.manual_seed(experience.index)
            again.train(experience)
    assert same(whole, again)
    assert again.average.seen == whole.average.seen == {"steps": 12}
    assert torch.equal(again.bank.means[0], whole.bank.means[0])


class Distilled(SGDStrategy[HeadsConfig]):
    """Learning without forgetting: a teacher that is there from the second experience on."""

    def setup(self, info: StreamInfo) -> None:
        super().setup(info)
        self.teacher: Classifier | None = None

    def remake(self, name: str) -> object:
        return copy.deepcopy(self.network)

    def penalty(self, batch: TrainBatch, logits: Tensor) -> Tensor | None:
        if self.teacher is None:
            return None
        with torch.no_grad():
            wanted = self.teacher(batch.images).softmax(1)
        return (logits[:, : wanted.shape[1]].softmax(1) - wanted).square().mean()

    def after_experience(self, experience: Experience) -> None:
        self.teacher = copy.deepcopy(self.network)


@pytest.mark.parametrize("heads", ["per-task", "shared-masked", "shared"])
def test_a_teacher_comes_back_with_its_tasks(experiences, learner, heads):
    setting = "task-incremental"
    whole, early, again = (learner(Distilled, setting, heads=heads) for _ in range(3))
    trained(whole, experiences(setting))
    trained(early, list(experiences(setting))[:2])
    again.load_state_dict(copy.deepcopy(early.state_dict()))
    trained(again, list(experiences(setting))[2:])
    assert same(whole, again)


def test_a_batch_to_predict_has_no_labels_and_one_to_learn_from_says_what_it_lacks():
    assert not hasattr(Batch(torch.zeros(2, 1, 2, 2)), "labels")
    stored = TrainBatch(torch.zeros(2, 1, 2, 2), columns={"logits": torch.ones(2, 3)})
    assert torch.equal(stored["logits"], torch.ones(2, 3))
    assert stored.tasks.tolist() == [0, 0]
    for read in ("labels", "pixels"):
        with pytest.raises(OutOfReach, match=f"have {read}"):
            getattr(stored, read)
    with pytest.raises(OutOfReach, match="have ages"):
        stored["ages"]
