"""The walk over attributes: what goes out comes back, and what cannot is refused by name."""

from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from clgym.attributes import modules_in, restore, state_of
from clgym.errors import BadPlugin
from clgym.learner.state import read_state, write_state
from clgym.strategy import Classifier

CPU = torch.device("cpu")


def through_a_file(state: dict[str, Any], path: Any) -> dict[str, Any]:
    write_state(path / "state", state)
    return read_state(path / "state")


class Learner:
    """A network under a momentum optimizer, with its weights under a second name."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        self.weights = [p for p in self.network.parameters() if p.ndim == 2]
        self.head = self.network[2]
        self.prompt = torch.zeros(3, requires_grad=True)
        self.optimizer = torch.optim.SGD([*self.weights, self.prompt], 0.1, momentum=0.9)
        self.average: torch.Tensor | None = None
        self.steps = 0
        self.draws = torch.Generator().manual_seed(7)
        self.recent: deque[float] = deque(maxlen=2)
        self.seen: set[int] = set()
        self.table = {0: np.zeros(2), "name": (1, [2.5, None])}
        self.activation = torch.relu

    def step(self) -> None:
        inputs = torch.randn(5, 3, generator=self.draws) + self.prompt
        loss = self.activation(self.network(inputs)).square().mean()
        loss = loss + sum(weight.square().sum() for weight in self.weights)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.average = self.weights[0].detach().clone()
        self.steps += 1
        self.recent.append(loss.item())
        self.seen.add(self.steps)
        self.table[0] = np.full(2, float(self.steps))


def test_a_learner_goes_on_to_the_same_bits(tmp_path: Any) -> None:
    whole, first, second = Learner(), Learner(), Learner()
    for _ in range(6):
        whole.step()
    for _ in range(3):
        first.step()
    restore(second, through_a_file(state_of(first), tmp_path), CPU)
    for _ in range(3):
        second.step()
    for name, value in whole.network.state_dict().items():
        assert torch.equal(second.network.state_dict()[name], value), name
    assert torch.equal(second.prompt, whole.prompt)
    assert second.recent == whole.recent and second.recent.maxlen == 2
    assert second.seen == whole.seen and second.steps == 6
    assert second.table["name"] == whole.table["name"]
    assert np.array_equal(second.table[0], whole.table[0])


def test_what_was_one_object_is_one_afterwards(tmp_path: Any) -> None:
    learner = Learner()
    state = through_a_file(state_of(learner), tmp_path)
    assert state["head"] == {"reference": ["network", "2"]}
    restore(learner, state, CPU)
    assert learner.head is learner.network[2]
    assert learner.weights[0] is learner.network[0].weight
    assert learner.optimizer.param_groups[0]["params"][2] is learner.prompt


def test_a_head_that_grew_is_taken_as_it_is(tmp_path: Any) -> None:
    grown, fresh = (SimpleNamespace(network=Classifier(nn.Flatten(), 4, 2)) for _ in range(2))
    grown.network.grow(5)
    restore(fresh, through_a_file(state_of(grown), tmp_path), CPU)
    assert fresh.network.columns == 5
    assert torch.equal(fresh.network.head.weight, grown.network.head.weight)


def test_attributes_that_are_skipped_are_left_as_they_are() -> None:
    owner = SimpleNamespace(a=1, b=object())
    assert state_of(owner, skip=["b"]) == {"a": {"value": 1}}
    other = SimpleNamespace(a=2, b=3)
    restore(other, {"a": {"value": 1}}, CPU, skip=["b"])
    assert (other.a, other.b) == (1, 3)


class Odd:
    """No state_dict."""


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (Odd(), "'odd'"),
        ([1, {"deep": Odd()}], "\"odd[1]['deep']\""),
        ({(1, 2): 3}, "'odd'"),
        (np.array(["text"]), "'odd'"),
        ({Odd()}, "'odd'"),
        (iter([1]), "'odd'"),
    ],
)
def test_an_unknown_kind_is_refused_with_its_place(value: Any, place: str) -> None:
    with pytest.raises(BadPlugin, match="can be saved") as caught:
        state_of(SimpleNamespace(fine=1, odd=value))
    assert place in str(caught.value)


def test_a_module_that_setup_does_not_make_is_refused() -> None:
    state = state_of(SimpleNamespace(late=nn.Linear(1, 1)))
    with pytest.raises(BadPlugin, match=r"setup\(\) to make 'late'"):
        restore(SimpleNamespace(late=None), state, CPU)


def test_modules_are_found_once_and_outermost() -> None:
    learner = Learner()
    owner = SimpleNamespace(
        head=learner.head, network=learner.network, again=learner.network, more=[nn.ReLU()]
    )
    assert {id(m) for m in modules_in(owner).values()} == {id(owner.network), id(owner.more[0])}


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
TENSORS = st.lists(st.integers(-5, 5), max_size=4).map(lambda v: torch.tensor(v).float())


@given(
    st.dictionaries(
        st.text(min_size=1),
        st.recursive(
            PLAIN | TENSORS,
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
                | st.tuples(inner, inner)
            ),
            max_leaves=8,
        ),
        max_size=4,
    )
)
def test_nested_values_come_back(values: dict[str, Any]) -> None:
    owner, fresh = SimpleNamespace(**values), SimpleNamespace()
    restore(fresh, state_of(owner), CPU)
    assert repr(vars(fresh)) == repr(values)
