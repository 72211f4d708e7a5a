"""The reservoir: its bound, its uniformity and its state."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clgym.data.memory import Memory
from clgym.errors import OutOfReach


def _filled(capacity: int, sizes: list[int], seed: int = 0) -> Memory:
    memory, generator, start = Memory(capacity), torch.Generator().manual_seed(seed), 0
    for size in sizes:
        rows = torch.arange(start, start + size)
        memory.add(generator, row=rows, twice=2 * rows[:, None].float())
        start += size
    return memory


@given(st.integers(1, 20), st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 9))
def test_never_more_than_declared_and_rows_stay_together(
    capacity: int, sizes: list[int], seed: int
) -> None:
    memory = _filled(capacity, sizes, seed)
    assert len(memory) == min(capacity, sum(sizes))
    assert len(set(memory["row"].tolist())) == len(memory)
    assert torch.equal(memory["twice"][:, 0], 2.0 * memory["row"])


def test_every_sample_is_kept_with_the_same_chance() -> None:
    counts = torch.zeros(40)
    for seed in range(2000):
        counts[_filled(10, [7, 13, 20], seed)["row"]] += 1
    # Each count is binomial(2000, 1/4): mean 500, deviation 19.4; five deviations on each side.
    assert (counts - 500).abs().max() < 97


def test_stored_logits_widen_with_new_classes() -> None:
    memory, generator = Memory(5), torch.Generator()
    memory.add(generator, logits=torch.ones(3, 2))
    memory.add(generator, logits=torch.full((2, 4), 2.0))
    assert memory["logits"].tolist() == [[1, 1, 0, 0]] * 3 + [[2] * 4] * 2


def test_undeclared_memory_is_out_of_reach() -> None:
    with pytest.raises(OutOfReach, match="declare Needs"):
        Memory(0).add(torch.Generator(), row=torch.arange(3))


def test_state_round_trip_goes_on_alike() -> None:
    whole = _filled(6, [5, 5, 5], seed=3)
    generator = torch.Generator().manual_seed(3)
    first = Memory(6)
    for start in (0, 5):
        rows = torch.arange(start, start + 5)
        first.add(generator, row=rows, twice=2 * rows[:, None].float())
    second = Memory(6)
    second.load_state_dict(first.state_dict(), torch.device("cpu"))
    rows = torch.arange(10, 15)
    second.add(generator, row=rows, twice=2 * rows[:, None].float())
    assert torch.equal(second["row"], whole["row"])


def test_draw_is_without_replacement() -> None:
    memory = _filled(10, [30])
    drawn = memory.draw(6, torch.Generator().manual_seed(1))
    assert len(set(drawn["row"].tolist())) == 6
    assert len(memory.draw(99, torch.Generator())["row"]) == 10
