"""Reading ahead changes when a part is read, and nothing else."""

import threading
from collections.abc import Callable
from contextlib import closing

import pytest
import torch
from crossings import META

from clgym.data.read_ahead import read_ahead
from clgym.errors import MissingData

CPU = torch.device("cpu")
LONG = 60.0
"""Seconds after which what should happen at once counts as not happening."""


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("clgym-read-ahead")]


def refuses(part: int) -> Callable[[int], int]:
    def read(number: int) -> int:
        if number == part:
            raise MissingData(expected="rows", found="none", fix="Fetch them")
        return number

    return read


@pytest.mark.parametrize("count", [0, 1, 2, 5])
@pytest.mark.parametrize("device", [CPU, META])
def test_parts_come_in_order(count: int, device: torch.device) -> None:
    assert list(read_ahead(range(count), lambda n: n * n, device)) == [n * n for n in range(count)]
    assert not threads()


def test_the_next_part_is_read_while_the_present_one_is_used() -> None:
    begun: list[int] = []
    done = [threading.Event() for _ in range(4)]

    def read(number: int) -> int:
        begun.append(number)
        done[number].set()
        return number

    with closing(read_ahead(range(4), read, META)) as parts:
        for number in parts:
            if number < 3:
                assert done[number + 1].wait(LONG)
            assert begun == list(range(min(number + 2, 4)))  # one ahead, and no more


def test_on_a_processor_no_thread_reads() -> None:
    readers: set[int] = set()
    for number in read_ahead(range(3), lambda n: readers.add(threading.get_ident()), CPU):
        assert number is None
    assert readers == {threading.get_ident()}


def test_an_error_is_raised_where_its_part_is_due() -> None:
    got: list[int] = []
    with pytest.raises(MissingData, match="Fetch them"):
        got.extend(iter(read_ahead(range(4), refuses(2), META)))
    with closing(read_ahead(range(4), refuses(2), META)) as parts:
        assert [next(parts), next(parts)] == [0, 1]
        with pytest.raises(MissingData, match="Fetch them"):
            next(parts)
    assert not threads()


def test_the_thread_ends_with_its_user() -> None:
    with (
        pytest.raises(ZeroDivisionError),
        closing(read_ahead(range(9), lambda n: n, META)) as parts,
    ):
        for number in parts:
            assert len(threads()) == 1
            assert 1 / (1 - number)
    assert not threads()
