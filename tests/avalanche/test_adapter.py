"""Avalanche templates of a user's: as they stand, and behind `AvalancheStrategy`."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from annotated_types import Ge
from avalanche.training import EWC, Replay
from avalanche.training.plugins import EWCPlugin, ReplayPlugin, SupervisedPlugin
from avalanche.training.supervised import Naive

import clgym
from clgym.avalanche import AvalancheStrategy, Recipe, SGDConfig
from clgym.avalanche.adapter import adapt
from clgym.avalanche.catalogue import RECIPES
from clgym.avalanche.options import accepted_by
from clgym.config import fields_of
from clgym.errors import BadPlugin, OutOfReach
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.learner.assembly import strategy_class
from clgym.learner.state import read_state, write_state
from clgym.strategy import Batch
from factories import PLUGINS

IMAGES = torch.rand(20, 1, 6, 6, generator=torch.Generator().manual_seed(3))


def own(name: str) -> Any:
    """The strategy around a template of `tests/plugins/calm.py`, as a run finds it."""
    return strategy_class(name.lower(), [f"{PLUGINS / 'calm.py'}:{name}"])


@dataclass(frozen=True)
class MineConfig(SGDConfig):
    """Options of `Mine`."""

    memory_size: Annotated[int, Ge(1)] = 30
    """Samples kept."""


class Mine(AvalancheStrategy):
    """Avalanche's replay, put together by its author."""

    Config = MineConfig
    template_class = Naive

    def arguments(self) -> dict[str, Any]:
        """The plugin."""
        return {"plugins": [ReplayPlugin(self.config.memory_size)]}


class Greedy(Mine):
    """Keeps more than it says."""

    def arguments(self) -> dict[str, Any]:
        """A larger buffer."""
        return {"plugins": [ReplayPlugin(2 * self.config.memory_size)]}


class Foreign(SupervisedPlugin):
    """A plugin with something in it that cannot be written down, and its own two methods."""

    def __init__(self) -> None:
        super().__init__()
        self.steps, self.held = 0, iter(())

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.steps += 1
        strategy.loss = strategy.loss * (1 + 1 / self.steps)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]


class WithForeign(AvalancheStrategy):
    """Uses it."""

    template_class = Naive

    def arguments(self) -> dict[str, Any]:
        """The plugin."""
        return {"plugins": [Foreign()]}


def answers(learner: Callable[..., Any], experiences: Any, cls: type, **options: Any) -> np.ndarray:
    """Logits after the last experience; the state goes through a file before each but the first."""
    strategy = learner(cls, **options)
    for experience in experiences():
        torch.manual_seed(experience.index)
        np.random.seed(experience.index)
        strategy.train(experience)
        experience.close()
    with torch.no_grad():
        return strategy.predict(Batch(IMAGES)).numpy()


def resumed(
    learner: Callable[..., Any], experiences: Any, cls: type, folder: Any, **options: Any
) -> np.ndarray:
    strategy = learner(cls, **options)
    for experience in experiences():
        torch.manual_seed(experience.index)
        np.random.seed(experience.index)
        strategy.train(experience)
        experience.close()
        memory = strategy.info.memory.state_dict()
        write_state(folder / "s", {"s": strategy.state_dict(), "m": memory})
        state = read_state(folder / "s")
        strategy = learner(cls, **options)
        strategy.info.memory.load_state_dict(state["m"], torch.device("cpu"))
        strategy.load_state_dict(state["s"])
    with torch.no_grad():
        return strategy.predict(Batch(IMAGES)).numpy()


def test_a_template_with_avalanches_plugin_is_avalanches_strategy(learner, experiences) -> None:
    options = {"memory_size": 30, "lr": 0.1}
    mine = answers(learner, experiences, Mine, **options)
    theirs = answers(learner, experiences, adapt("Replay"), **options)
    assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("cls", [Mine, own("Calm"), WithForeign], ids=lambda c: c.__name__)
def test_state_is_complete_without_a_line_of_the_author(
    learner, experiences, cls, tmp_path
) -> None:
    """The counter of a plugin changes the loss: a run that forgot it would differ."""
    options = {"lr": 0.1, "momentum": 0.9}
    whole = answers(learner, experiences, cls, **options)
    assert np.array_equal(whole, resumed(learner, experiences, cls, tmp_path, **options))


def test_more_samples_than_declared_are_refused(learner, experiences) -> None:
    with pytest.raises(OutOfReach, match="at most 30 samples"):
        answers(learner, experiences, Greedy)


def test_options_are_those_of_the_constructor() -> None:
    fields = {f.name: f for f in fields_of(own("Calm").Config)}
    assert fields["strength"].default == 0.1 and fields["strength"].kind == "float"
    assert fields["memory_size"].default == 200 and "mem_size" not in fields
    assert "plugins" not in fields and "lr" in fields
    assert "lr" in {f.name for f in fields_of(WithForeign.Config)}


def test_a_subclass_of_a_catalogued_template_has_its_recipe() -> None:
    class Own(EWC):
        """EWC with something more."""

    from clgym.avalanche.catalogue import recipe_of

    found = recipe_of(Own)
    assert found.given is RECIPES["EWC"].given and found.hidden == RECIPES["EWC"].hidden
    assert found.summary == "EWC with something more."


def test_a_plugin_that_cannot_be_saved_is_refused_by_name_at_setup(learner) -> None:
    with pytest.raises(BadPlugin, match="AGEMPlugin.*state_dict and load_state_dict"):
        learner(own("Unsaved"))


def test_an_object_among_the_arguments_is_refused_with_the_way_out() -> None:
    with pytest.raises(BadPlugin, match="found buffer.*AvalancheStrategy"):
        own("Demanding")


def test_a_constructor_that_takes_no_common_arguments_is_refused(learner) -> None:
    with pytest.raises(BadPlugin, match="train_mb_size"):
        learner(own("Closed"))


def test_a_memory_without_a_size_is_refused() -> None:
    with pytest.raises(BadPlugin, match="memory_size"):

        class _Sizeless(AvalancheStrategy):
            Config = SGDConfig
            template_class = Naive
            recipe = Recipe(memory=True)


def test_tensors_that_a_recipe_names_are_counted(learner, experiences) -> None:
    """EWC's importances are no samples, a deque of images is."""

    class Keeps(AvalancheStrategy):
        Config = MineConfig
        template_class = Naive
        recipe = Recipe(memory=True, kept=_held)

        def arguments(self) -> dict[str, Any]:
            return {"plugins": [EWCPlugin(1.0), Keeper()]}

    strategy = learner(Keeps)
    for experience in experiences():
        strategy.train(experience)
        experience.close()
    assert len(strategy.info.memory) == 8


def _held(template: Any) -> list[Any]:
    return list(next(p for p in template.plugins if isinstance(p, Keeper)).held)


class Keeper(SupervisedPlugin):
    """Keeps eight images as tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.held: deque[Any] = deque(maxlen=1)

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        self.held.append((strategy.mb_x[:8], strategy.mb_y[:8]))


@pytest.mark.slow
def test_a_template_of_a_file_runs_by_its_path(cli, tmp_path) -> None:
    """Equal to a run of the class behind an `AvalancheStrategy`, through the worker's process."""
    code, out, err = cli(
        "run", f"{PLUGINS / 'calm.py'}:Calm", "split-digits", "--strength", "0.01",
        "--out", tmp_path / "r", "--json",
    )  # fmt: skip
    assert code == 0, err
    record = clgym.run(f"{PLUGINS / 'calm.py'}:Calm", "split-digits", config={"strength": 0.01})
    assert record.result.strategy.name == "calm" and '"stored_samples": 100' in out
    assert f'"last_accuracy": {record.result.last_accuracy}' in out
    assert cli("check", f"{PLUGINS / 'calm.py'}:Calm")[0] == 0


def test_a_network_is_counted_as_trainable_wherever_its_tensors_stand(tmp_path):
    """Avalanche's templates keep the optimised parameters in a dict beside the model."""
    request = Request("avalanche:Naive", "split-digits", out=tmp_path / "run", engine="inline")
    holdings = run(request).holdings
    assert holdings is not None
    assert holdings.trainable == holdings.total > 0


def test_arguments_that_a_constructor_hands_on_are_accepted():
    class Handing(Replay):
        def __init__(self, *, mem_size: int = 10, **kwargs: Any):
            super().__init__(mem_size=mem_size, **kwargs)

    class Closed(Replay):
        def __init__(self, *, mem_size: int = 10):
            raise NotImplementedError

    assert {"mem_size", "criterion", "train_epochs"} <= accepted_by(Handing)
    assert accepted_by(Closed) == {"mem_size"}
