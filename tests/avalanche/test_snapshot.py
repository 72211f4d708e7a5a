import functools
from collections import OrderedDict, defaultdict, deque
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.training.utils import ParamData
from torch import nn

from clgym.avalanche.snapshot import capture, rebuild
from clgym.learner.state import read_state, write_state

CPU = torch.device("cpu")


def there_and_back(tmp_path, root, **outside):
    """Through the file format of learner states, as in a run."""
    write_state(tmp_path / "state", capture(root, outside))
    return rebuild(read_state(tmp_path / "state"), outside, CPU)


def test_a_network_and_its_optimizer_stay_one(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)

    def step(net, optimizer):
        optimizer.zero_grad()
        net(torch.arange(15.0).view(5, 3)).square().sum().backward()
        optimizer.step()

    step(net, optimizer)
    again = there_and_back(tmp_path, {"net": net, "optimizer": optimizer})
    for pair in ((net, optimizer), (again["net"], again["optimizer"])):
        step(*pair)
    for key, value in net.state_dict().items():
        assert torch.equal(again["net"].state_dict()[key], value), key
    assert again["optimizer"].param_groups[0]["params"][0] is next(again["net"].parameters())


def test_containers_and_identity(tmp_path):
    shared = [1, 2.5, "x", None, True]
    counts = defaultdict(list, {3: [1]})
    root = {
        "a": shared,
        "b": (shared, {1, 2}, frozenset({3}), deque([4])),
        "c": OrderedDict([((1, 2), "pair"), (None, counts)]),
        "d": np.arange(6.0).reshape(2, 3),
        "e": np.float32(0.5),
        "f": functools.partial(torch.zeros, 2, dtype=torch.float64),
        "g": torch.Size([2, 3]),
        "h": torch.float64,
        "i": ParamData("p", init_tensor=torch.ones(2)),
        "j": range(2, 9, 3),
    }
    again = there_and_back(tmp_path, root)
    assert again["a"] == shared and again["b"][0] is again["a"]
    assert again["b"] == root["b"] and again["c"] == root["c"]
    assert again["c"][None]["new"] == []  # the factory came along
    assert again["j"] == root["j"]
    assert np.array_equal(again["d"], root["d"]) and again["d"].dtype == np.float64
    assert again["e"] == 0.5 and type(again["e"]) is np.float32
    assert torch.equal(again["f"](), torch.zeros(2, dtype=torch.float64))
    assert again["g"] == root["g"] and again["h"] is torch.float64
    assert torch.equal(again["i"].expand((4,)), torch.tensor([1.0, 1.0, 0.0, 0.0]))


def test_objects_may_lead_back_to_themselves(tmp_path):
    module: Any = nn.Module()
    module.loop = [module]
    again = there_and_back(tmp_path, {"m": module})["m"]
    assert again.loop[0] is again


def test_objects_outside_the_snapshot_keep_their_identity(tmp_path):
    memory = object()
    again = there_and_back(tmp_path, {"held": [memory]}, memory=memory)
    assert again["held"][0] is memory


@pytest.mark.parametrize("value", [lambda x: x, iter([1]), (i for i in [1])])
def test_what_cannot_be_written_is_named_with_the_way_to_it(value):
    with pytest.raises(TypeError, match=r"plugin\.\['key'\]|plugin\['key'\]"):
        capture({"plugin": {"key": value}}, {})


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "builtins:eval",
        "torch:os.system",
        "torch:load",
        "clgym.files:os.system",
        "torch.nn:Linear",
        "avalanche.core:ABC",
    ],
)
@pytest.mark.parametrize("kind", ["object", "named"])
def test_a_snapshot_cannot_name_arbitrary_classes(name, kind):
    node = {"is": kind, "class": name, "name": name, "fields": {}}
    state = {"top": {"a": {"ref": 0}}, "nodes": [node], "tensors": []}
    with pytest.raises(ValueError):
        rebuild(state, {}, CPU)
