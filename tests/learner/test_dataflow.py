"""What an answer was computed from is found, and nothing else is."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clgym.learner.dataflow import Dataflow, address


def sources(answer: Any, *, follow_updates: bool = True) -> set[int]:
    flow = Dataflow(follow_updates=follow_updates)
    with flow:
        result = answer()
    return flow.sources(result)


def test_chains_views_and_updates_are_followed() -> None:
    a, b, c, d = (torch.rand(4, 4) for _ in range(4))

    def answer() -> Tensor:
        part = a.view(16)[:4]
        total = torch.zeros(4)
        total += part
        total[1:2].copy_(b[0, 1:2])
        torch.add(total, 1, out=total)
        (c * 3).sum()  # leads nowhere
        return total if float(d.sum()) > 0 else total + 1

    found = sources(answer)
    assert {address(a), address(b)} <= found
    assert not {address(c), address(d)} & found


def test_networks_that_answer_are_told_from_teachers() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 2))
    teacher, images = copy.deepcopy(network), torch.rand(5, 1, 6, 6)
    optimizer = torch.optim.Adam(network.parameters())

    def learns() -> Tensor:
        answers, target = network(images), teacher(images)
        loss = (answers - target.detach()).square().mean()
        loss.backward()
        optimizer.step()
        return answers.detach()

    for _ in range(2):  # the second time the network's weights came from the teacher's answers
        found = sources(learns, follow_updates=False)
        assert {address(p) for p in network.parameters()} <= found
        assert not {address(p) for p in teacher.parameters()} & found


def test_weights_that_are_copied_into_a_network_count_where_nothing_is_learned() -> None:
    network, own, images = nn.Linear(3, 2), torch.rand(2, 3), torch.rand(4, 3)

    def serves() -> Tensor:
        with torch.no_grad():
            network.weight.copy_(own)
            return network(images)

    assert address(own) in sources(serves)
    assert address(own) not in sources(serves, follow_updates=False)


def test_a_storage_that_takes_the_address_of_another_is_not_that_one() -> None:
    """`torch.tensor` makes storages that no operation is seen for."""
    weight, hidden = torch.rand(300_000), torch.rand(300_000)
    values = [1.0] * 300_000
    same = 0

    def answer() -> Tensor:
        nonlocal same
        made = hidden * 2
        before = address(made)
        del made
        fresh = torch.tensor(values)
        same += address(fresh) == before
        return weight * fresh

    for _ in range(10):
        assert address(hidden) not in sources(answer)
    if not same:
        pytest.skip("the allocator gave no address twice")


def test_an_answer_that_leaves_torch_has_no_source_but_itself() -> None:
    made = torch.rand(3)
    assert address(made) not in sources(lambda: torch.from_numpy(made.numpy().copy()))


@pytest.mark.parametrize("layer", [nn.MultiheadAttention(8, 2, batch_first=True), nn.LSTM(8, 8)])
def test_no_bit_changes(layer: nn.Module) -> None:
    images = torch.rand(3, 5, 8)
    call: Any = layer
    with torch.no_grad():
        given = (images,) * 3 if isinstance(layer, nn.MultiheadAttention) else (images,)
        plain = call(*given)[0]
        with Dataflow(follow_updates=True):
            noted = call(*given)[0]
    assert torch.equal(plain, noted)


def test_what_a_sparse_tensor_is_multiplied_with_is_found() -> None:
    """The sparse one has no storage of its own by which it could be known."""
    weights, unused, sparse = torch.rand(3, 3), torch.rand(3, 3), torch.eye(3).to_sparse()
    assert address(sparse) == 0
    found = sources(lambda: torch.sparse.mm(sparse, weights))
    assert address(weights) in found and address(unused) not in found
