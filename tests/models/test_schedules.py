"""Learning rates against torch's own schedulers, and the rule of milestones."""

import pytest
import torch

from clgym.models.schedules import Constant, Cosine, Steps, at_fractions, milestones


def by_torch(make, epochs: int, lr: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr)
    schedule, rates = make(optimizer), []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("drops", [(1,), (2, 3), (80, 160), ()])
def test_steps(drops: tuple[int, ...]) -> None:
    rates = by_torch(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, drops, 0.3), 200, 0.2)
    assert [Steps(0.2, drops, 0.3)(epoch) for epoch in range(200)] == pytest.approx(rates)


@pytest.mark.parametrize("epochs", [1, 2, 7, 200])
def test_cosine(epochs: int) -> None:
    rates = by_torch(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, epochs), epochs, 0.15)
    assert [Cosine(0.15, epochs)(epoch) for epoch in range(epochs)] == pytest.approx(rates)


def test_constant() -> None:
    assert {Constant(0.1)(epoch) for epoch in range(5)} == {0.1}


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("epochs", [5, 10, 20, 30, 50, 70, 120, 160, 200])
def test_milestones_are_the_authors_truncated_fractions(count: int, epochs: int) -> None:
    wanted = [int(epochs * 2 * i / (2 * count + 1)) for i in range(1, count + 1)]
    assert milestones(count, epochs) == tuple(wanted)


def test_no_rate_falls_before_the_first_epoch() -> None:
    assert milestones(4, 2) == (1, 1)  # as torch's MultiStepLR, which then falls twice
    assert milestones(2, 1) == ()
    assert at_fractions((0.3, 0.6, 0.85), 1) == ()


def test_fractions_of_epochs() -> None:
    assert at_fractions((0.3, 0.6, 0.85), 200) == (60, 120, 170)
    assert at_fractions((6 / 17, 10 / 17, 14 / 17), 170) == (60, 100, 140)
    assert at_fractions((8 / 17, 12 / 17), 170) == (80, 120)
    assert at_fractions((3 / 7, 5 / 7), 70) == (30, 50)
