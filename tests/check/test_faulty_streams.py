"""Every rule of streams that a scenario breaks is caught by the check meant for it, and by name."""

from types import ModuleType

import pytest

from clgym.check import scenario_findings

NAMES = [
    "CutsNothing", "NamesARowTwice", "TestsTwice", "BringsRowsBack", "NumbersByClass",
    "ForgetsAClass", "TrainsOnHeldOutRows", "DrawsGlobally", "IgnoresTheOrderSeed",
    "FailsOnOneImage",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_is_caught_by_name(faulty_streams: ModuleType, name: str) -> None:
    cls = getattr(faulty_streams, name)
    (finding,) = scenario_findings(cls, only=[faulty_streams.CAUGHT[cls]])
    assert finding.status == "failed", finding
    assert finding.found and finding.fix


def test_every_check_has_a_scenario_that_fails_it(faulty_streams: ModuleType) -> None:
    assert {cls.__name__ for cls in faulty_streams.CAUGHT} == set(NAMES)


def test_the_base_that_the_faults_are_put_on_passes(faulty_streams: ModuleType) -> None:
    statuses = {f.status for f in scenario_findings(faulty_streams._Changed)}
    assert statuses == {"passed", "skipped"}
