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


@given(st.integers(1, 12), st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(0, 9))
def test_the_reservoir_is_algorithm_r(capacity: int, sizes: list[int], seed: int) -> None:
    held: list[int] = []
    draws, n = torch.Generator().manual_seed(seed), 0
    for size in sizes:
        for uniform in torch.rand(size, generator=draws, dtype=torch.float64).tolist():
            if n < capacity:
                held.append(n)
            elif (slot := int(uniform * (n + 1))) < capacity:
                held[slot] = n
            n += 1
    assert _filled(capacity, sizes, seed)["row"].tolist() == held


def _rows(*numbers: int) -> dict[str, torch.Tensor]:
    rows = torch.tensor(numbers, dtype=torch.int64)
    return {"row": rows, "labels": rows % 3}


def test_contents_are_replaced_whole() -> None:
    memory = Memory(5)
    memory.append(**_rows(0, 1, 2, 3, 4))
    memory.replace(**_rows(7, 8))
    assert memory["row"].tolist() == [7, 8]
    memory.replace(pixels=torch.ones(1, 2, 2, dtype=torch.uint8))  # other columns than before
    assert "row" not in memory and memory.size == 4


def test_samples_go_behind_and_in_place_of_others() -> None:
    memory = Memory(5)
    memory.append(**_rows(0, 1, 2))
    memory.put(torch.tensor([2, 0]), **_rows(8, 9))
    assert memory["row"].tolist() == [9, 1, 8]
    assert memory["labels"].tolist() == [0, 1, 2]


def test_a_selection_is_kept_in_its_order() -> None:
    memory = Memory(6)
    memory.append(**_rows(*range(6)))
    memory.keep(torch.tensor([5, 0, 3]))
    assert memory["row"].tolist() == [5, 0, 3]
    memory.append(**_rows(10, 11, 12))
    assert memory["row"].tolist() == [5, 0, 3, 10, 11, 12]
    memory.keep(torch.tensor([], dtype=torch.int64))
    assert len(memory) == 0 and memory.rows_by() == {} and memory.size == 0


def test_rows_are_grouped_by_a_column() -> None:
    memory = Memory(6)
    memory.append(**_rows(0, 1, 2, 3, 5))
    found = {label: rows.tolist() for label, rows in memory.rows_by().items()}
    assert found == {0: [0, 3], 1: [1], 2: [2, 4]}


def test_draws_come_from_a_subset() -> None:
    memory = Memory(9)
    memory.append(**_rows(*range(9)))
    among = torch.tensor([1, 4, 7])
    drawn = memory.draw(2, torch.Generator().manual_seed(0), among)["row"]
    assert len(set(drawn.tolist())) == 2 and set(drawn.tolist()) <= {1, 4, 7}
    assert sorted(memory.draw(9, torch.Generator(), among)["row"].tolist()) == [1, 4, 7]


def test_room_that_was_made_is_filled_before_samples_are_drawn() -> None:
    memory = _filled(6, [20])
    kept = memory["row"][:2].tolist()
    memory.keep(torch.tensor([0, 1]))
    rows = torch.arange(100, 104)
    memory.add(torch.Generator(), row=rows, twice=2 * rows[:, None].float())
    assert memory["row"].tolist() == [*kept, 100, 101, 102, 103]


def _misuses() -> dict[str, tuple[type[Exception], str]]:
    return {
        "append(**_rows(1, 2, 3))": (OutOfReach, "at most 2 more"),
        "replace(**_rows(1, 2, 3, 4, 5, 6))": (OutOfReach, "at most 5 more"),
        "put(torch.tensor([3]), **_rows(1))": (OutOfReach, "of the 3 samples held"),
        "put(torch.tensor([-1]), **_rows(1))": (OutOfReach, "of the 3 samples held"),
        "put(torch.tensor([1, 1]), **_rows(1, 2))": (ValueError, "different rows"),
        "keep(torch.tensor([1, 1]))": (ValueError, "kept once"),
        "keep(torch.tensor([3]))": (OutOfReach, "of the 3 samples held"),
        "draw(1, torch.Generator(), torch.tensor([4]))": (OutOfReach, "of the 3 samples held"),
        "append(row=torch.tensor([1]))": (ValueError, "has the columns"),
        "append(row=torch.tensor([1, 2]), labels=torch.tensor([1]))": (ValueError, "one length"),
        "append(row=torch.tensor([1.5]), labels=torch.tensor([1]))": (
            ValueError,
            "holds torch.int",
        ),
        "put(torch.tensor([0]), row=torch.tensor([7]), labels=torch.tensor([0.5]))": (
            ValueError,
            "holds torch.int",
        ),
        "append(row=torch.tensor([[1]]), labels=torch.tensor([1]))": (ValueError, "a sample"),
    }


@pytest.mark.parametrize("call", _misuses())
def test_what_would_spoil_the_memory_is_refused_and_changes_nothing(call: str) -> None:
    memory = Memory(5)
    memory.append(**_rows(0, 1, 2))
    error, words = _misuses()[call]
    with pytest.raises(error, match=words):
        eval(f"memory.{call}", {"memory": memory, "torch": torch, "_rows": _rows})
    assert memory["row"].tolist() == [0, 1, 2] and memory["labels"].tolist() == [0, 1, 2]


def test_a_class_balanced_memory_is_written_with_slots() -> None:
    """GDumb's greedy balance: a new sample of a class below its share displaces the largest's."""
    memory, draws = Memory(6), torch.Generator().manual_seed(0)
    labels = [0] * 10 + [1] * 5 + [2] * 9
    for number, label in enumerate(labels):
        sample = {"row": torch.tensor([number]), "labels": torch.tensor([label])}
        rows = memory.rows_by()
        if len(memory) < memory.capacity:
            memory.append(**sample)
        elif len(rows.get(label, ())) < memory.capacity // len({*rows, label}):
            largest = max(rows.values(), key=len)
            chosen = largest[torch.randint(len(largest), (1,), generator=draws)]
            memory.put(chosen, **sample)
    assert {label: len(rows) for label, rows in memory.rows_by().items()} == {0: 2, 1: 2, 2: 2}
