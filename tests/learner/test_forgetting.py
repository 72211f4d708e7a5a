"""Samples of a request leave the memory, whichever columns tell them."""

from collections.abc import Callable, Iterator

import pytest
import torch

from clgym.data.forgetting import ForgetRequest
from clgym.errors import BadPlugin
from clgym.learner.forgetting import check_memory_is_clean, remove_forgotten
from clgym.strategy import Experience, Memory

Experiences = Callable[..., Iterator[Experience]]


@pytest.fixture
def seen(experiences: Experiences) -> list[Experience]:
    return list(experiences())


def request(seen: list[Experience], *indices: int) -> ForgetRequest:
    """To forget the classes of the experience 1, whose rows two experiences brought."""
    return ForgetRequest(0, "experience", (2, 3), 6, [seen[i] for i in indices], None, seed=0)


def memory_of(seen: list[Experience], *columns: str) -> Memory:
    """Six samples of each experience, with some of their columns."""
    memory = Memory(18)
    for experience in seen:
        values = {
            "pixels": experience.pixels[:6],
            "labels": experience.labels[:6],
            "logits": torch.zeros(6, 6),
            "means": experience.pixels[:6].float().mean((1, 2, 3)),
        }
        memory.append(**{name: values[name] for name in columns})
    return memory


@pytest.mark.parametrize(
    "columns", [("pixels",), ("labels",), ("pixels", "labels"), ("labels", "logits", "means")]
)
def test_samples_are_told_by_labels_and_by_pixels(
    seen: list[Experience], columns: tuple[str, ...]
) -> None:
    memory, asked = memory_of(seen, *columns), request(seen, 1)
    with pytest.raises(BadPlugin, match="6 of them after forget"):
        check_memory_is_clean(memory, asked)
    assert remove_forgotten(memory, asked) == 6
    assert len(memory) == 12
    check_memory_is_clean(memory, asked)
    assert remove_forgotten(memory, asked) == 0


def test_samples_that_nothing_tells_are_refused(seen: list[Experience]) -> None:
    with pytest.raises(BadPlugin, match="the columns logits, means"):
        remove_forgotten(memory_of(seen, "logits", "means"), request(seen, 1))


def test_an_empty_memory_is_clean(seen: list[Experience]) -> None:
    check_memory_is_clean(Memory(4), request(seen, 1))
