"""What a strategy holds is counted in one way, whoever wrote it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clgym.learner.holdings import Bookkeeper, held_by
from clgym.strategy import Batch, Config, Memory, Strategy
from factories import stream_info


class Holder(Strategy):
    """A network of 8 parameters and 3 buffers of 7 numbers, class means, a teacher, statistics."""

    transient = ("cache", "table")

    def setup(self, info: Any) -> None:
        super().setup(info)
        self.network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(1)).eval()
        self.network[0].bias.requires_grad_(False)
        self.alias = self.network[0].weight  # the same numbers under a second name
        self.means = {0: torch.ones(2), 1: np.full(2, 3.0)}
        self.counts = torch.tensor([4, 5])
        self.teacher = nn.Linear(2, 2)
        self.fisher = [torch.zeros(3), torch.zeros(4)]
        self.optimizer = torch.optim.Adam(self.network.parameters())
        self.cache = torch.zeros(1000)
        self.table = torch.tensor([2.0])

    def predict(self, batch: Batch) -> Tensor:
        hidden = self.network[0](batch.images)
        hidden = self.network[1](hidden[:, None].transpose(1, 2)[:, :1, 0])
        means = torch.stack([self.means[0], torch.from_numpy(self.means[1]).float()])
        return hidden @ means[:1] * self.table / self.counts.sum()


def strategy(cls: type[Strategy] = Holder) -> Any:
    made = cls(Config())
    made.setup(stream_info((1, 1, 2), "class-incremental", memory=Memory(4)))
    return made


def counted(held: Any) -> Any:
    books = Bookkeeper()
    with torch.no_grad():
        books.observe(held, lambda: held.predict(Batch(torch.rand(3, 2))), learns=False)
    return books.count(held, held.info.memory)


def test_three_numbers_and_what_is_stored() -> None:
    held = strategy()
    held.info.memory.append(pixels=torch.zeros(3, 5, dtype=torch.uint8))
    found = counted(held)
    weight, bias, norm = 4, 2, 2
    assert found.trainable == weight + norm
    assert found.total == weight + bias + norm + 2 * 2 + 1  # means of both kinds, and the table
    assert found.buffers == 3 + 2  # running mean, variance and number of batches; counts
    assert found.stored == {
        "info.memory": 15,
        "self.teacher": 6 * 4,
        "self.fisher[*]": 7 * 4,
    }


def test_numbers_stand_in_one_place() -> None:
    held = held_by(strategy())
    starts = [t.data_ptr() for one in held.values() for t in (*one.parameters, *one.buffers)]
    starts += [t.data_ptr() for one in held.values() for t in one.loose if isinstance(t, Tensor)]
    assert len(starts) == len(set(starts))


def test_a_wrapper_counts_what_it_wraps() -> None:
    class Wraps(Strategy):
        def setup(self, info: Any) -> None:
            super().setup(info)
            self.base = strategy()

        def predict(self, batch: Batch) -> Tensor:
            return self.base.predict(batch)

    inner, outer = counted(strategy()), counted(strategy(Wraps))
    assert (outer.trainable, outer.total, outer.buffers) == (
        inner.trainable,
        inner.total,
        inner.buffers,
    )
    assert sum(outer.stored.values()) == sum(inner.stored.values())


def test_an_answer_outside_of_torch_may_depend_on_everything() -> None:
    class Numpy(Holder):
        def predict(self, batch: Batch) -> Tensor:
            return torch.from_numpy(batch.images.numpy() @ self.means[1][:, None])

    found = counted(strategy(Numpy))
    assert found.stored == {} and found.total == 4 + 2 + 2 + 4 + 6 + 7 + 1001


def test_places_that_serve_go_on_in_another_process() -> None:
    held, books = strategy(), Bookkeeper()
    books.observe(held, lambda: held.predict(Batch(torch.rand(3, 2))), learns=False)
    again = Bookkeeper()
    again.load_state_dict(books.state_dict())
    one, other = (b.count(held, held.info.memory) for b in (books, again))
    assert vars(one) == vars(other)


@pytest.mark.parametrize("name", ["parameter_count"])
def test_a_method_that_nothing_calls_any_more_is_refused(name: str) -> None:
    from clgym.errors import Renamed

    with pytest.raises(Renamed, match=r"Old\.parameter_count.*The gym counts parameters"):
        type("Old", (Strategy,), {name: lambda self: 3})
