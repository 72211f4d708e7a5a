"""The conformance suite over everything that is registered."""

import pytest

from clgym import registry
from clgym.check import findings_of
from clgym.errors import Incompatible


def _names(kind: registry.Kind) -> list[str]:
    return [
        name
        for entry in registry.entries(kind).values()
        for name in ([f"{entry.name}:{v}" for v in entry.variants] or [entry.name])
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", _names("strategies"))
def test_a_strategy_passes(name: str) -> None:
    _passes("strategies", name)


@pytest.mark.slow
@pytest.mark.parametrize("name", _names("scenarios"))
def test_a_scenario_passes(name: str) -> None:
    _passes("scenarios", name)


def _passes(kind: registry.Kind, name: str) -> None:
    try:
        found = list(findings_of(kind, registry.find(kind, name)))
    except Incompatible as reason:
        pytest.skip(str(reason))  # declared as one that cannot run here
    failed = [f"{f.check}: {f.found}. {f.fix}" for f in found if f.status == "failed"]
    assert not failed, "\n".join(failed)
