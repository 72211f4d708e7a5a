"""Every rule that a strategy can break is caught by the check meant for it, and by name."""

from types import ModuleType

import pytest

from clgym.check import CheckFailed, check_strategy, strategy_checks, strategy_findings

NAMES = [
    "PeeksAtLabels", "KeepsPastData", "KeepsPastDataOutside", "KeepsFeatures", "ExceedsItsMemory",
    "PredictsUnseenClasses", "ForgetsItsOptimizer", "ForgetsItsCounts", "CountsInItsModule",
    "DrawsFromItsOwnGenerator",
    "IgnoresTheSeed", "ClaimsToBeDeterministic", "LearnsFromTestImages", "NormalisesByTheBatch",
    "DropsOutAtTest", "NeedsTwoInABatch", "DividesByTheVariance", "TakesAnything",
    "RefusesItsOwnDefault", "SearchesOutsideItsLimits", "ExplainsNothing", "CannotBePickled",
    "HidesItsScale", "DoesNotRun", "SaysItFailsAndPasses",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_is_caught_by_name(faulty: ModuleType, name: str) -> None:
    cls = getattr(faulty, name)
    caught = faulty.CAUGHT[cls]
    (finding,) = strategy_findings(cls, only=[caught])
    assert finding.status == "failed", finding
    assert finding.found and finding.fix


def test_every_check_has_a_strategy_that_fails_it(faulty: ModuleType) -> None:
    assert {cls.__name__ for cls in faulty.CAUGHT} == set(NAMES)
    checks = {check.name for check in strategy_checks()}
    # Without a GPU `devices` catches nobody; what does not run is caught before `runs`.
    assert checks - set(faulty.CAUGHT.values()) == {"runs", "devices"}


def test_the_base_that_the_faults_are_put_on_passes(faulty: ModuleType) -> None:
    assert {f.status for f in check_strategy(faulty.NMC)} == {"passed", "skipped"}


def test_a_failed_check_is_raised_with_its_message(faulty: ModuleType) -> None:
    with pytest.raises(CheckFailed, match="no-labels: predictions that change"):
        check_strategy(faulty.PeeksAtLabels)


def test_a_declared_failure_is_shown_and_does_not_fail(faulty: ModuleType) -> None:
    (finding,) = strategy_findings(faulty.SaysItFails, only=["no-labels"])
    assert finding.status == "known failure"
    assert "it is a bad example" in finding.found


def test_a_strategy_that_does_not_run_skips_the_other_checks(faulty: ModuleType) -> None:
    found = list(strategy_findings(faulty.DoesNotRun))
    behind = found[[f.check for f in found].index("unseen-classes") :]
    assert behind[0].status == "failed"
    assert {f.status for f in behind[1:]} == {"skipped"}
