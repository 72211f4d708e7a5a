"""Exponents of growth."""

import pytest

from clgym.bench.growth import QUANTITIES, Growth, exponent
from clgym.cli.bench import GROWTH


@pytest.mark.parametrize("power", [0.5, 1.0, 1.44, 3.0])
def test_the_exponent_of_a_power_law_is_found_whatever_the_fixed_cost(power: float) -> None:
    costs = [4.5 + 0.02 * size**power for size in (25, 50, 100, 200)]
    assert exponent(costs) == pytest.approx(power)


@pytest.mark.parametrize("costs", [(4.5, 4.5, 4.4, 4.5), (6.0, 6.1, 6.3, 6.1)])
def test_costs_that_hardly_grow_have_no_exponent(costs: tuple[float, ...]) -> None:
    growth = Growth("classes", (1, 2, 4, 8), costs)
    assert growth.exponent is None
    assert growth.to_tree()["exponent"] is None
    assert not growth.grows


def test_a_cost_that_grows_in_one_step_only_is_not_said_to_stay() -> None:
    growth = Growth("classes", (1, 2, 4, 8), (1.0, 1.0, 1.0, 2.0))
    assert growth.grows and growth.exponent is None


def test_quantities_of_the_command_are_those_that_can_be_measured() -> None:
    assert tuple(QUANTITIES) == GROWTH
    assert all(b == 2 * a for _, s in QUANTITIES.values() for a, b in zip(s, s[1:], strict=False))
