"""Tools to test your own plugin: the conformance suite, and a run that is executed step by step.

In a test file of a plugin::

    from clgym.testing import CheckCase, parametrize_with_checks, simulate


    @parametrize_with_checks(MyMethod)
    def test_my_method_conforms(check: CheckCase) -> None:
        check()


    def test_my_method_learns_its_second_task() -> None:
        with simulate(MyMethod, config={"lr": 0.1}) as run:
            run.train(0)
            run.train(1)
            logits = run.predict(1)  # of all test rows seen, float32 [n, classes]
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clgym import registry
from clgym.check import CheckFailed, Finding, strategy_checks, strategy_findings
from clgym.check.tiny import workspace

if TYPE_CHECKING:
    from clgym.check.simulator import Simulator
    from clgym.strategy import Strategy

__all__ = ["CheckCase", "CheckFailed", "Finding", "parametrize_with_checks", "simulate"]


@dataclass(frozen=True)
class CheckCase:
    """One check of one strategy, as a test case."""

    cls: "type[Strategy]"
    name: str
    """Name of the check, as ``clgym check NAME --list`` shows it."""
    plugins: tuple[Path, ...] = field(default=(), repr=False)

    def __call__(self) -> None:
        """Carry out the check; if it does not apply, the test is skipped.

        Raises:
            CheckFailed: The check fails, and `Strategy.KNOWN_FAILURES` does not declare it.
        """
        import pytest

        only = [self.name]
        (found,) = strategy_findings(self.cls, plugins=self.plugins, only=only)
        if found.status == "failed":
            raise CheckFailed(
                expected=f"{self.cls.__name__} to pass {self.name}",
                found=found.found,
                fix=found.fix,
            )
        if found.status == "known failure":
            pytest.xfail(found.found)
        if found.status == "skipped":
            pytest.skip(found.found)


def parametrize_with_checks(
    *classes: "type[Strategy]", plugins: Sequence[Path] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a pytest case of every check of every class, passed as the argument ``check``.

    Args:
        classes: Strategies to check.
        plugins: Files of strategies that they wrap.
    """
    import pytest

    cases = [
        CheckCase(cls, check.name, tuple(plugins)) for cls in classes for check in strategy_checks()
    ]
    names = [f"{case.cls.__name__}-{case.name}" for case in cases]
    return pytest.mark.parametrize("check", cases, ids=names)


@contextlib.contextmanager
def simulate(
    cls: "type[Strategy]",
    *,
    config: Mapping[str, object] | None = None,
    setting: str | None = None,
    seed: int = 0,
    train: Sequence[int] | int = 8,
    test: int = 4,
    plugins: Sequence[Path] = (),
) -> "Iterator[Simulator]":
    """Run a strategy on a tiny stream in this process, step by step, with the gym's own messages.

    The stream has six classes of real digits, two per experience; options of the strategy are
    small, as for the checks.

    Args:
        cls: The strategy's class; it needs no file.
        config: Options of the strategy.
        setting: Scenario type; None takes the first that the strategy works in.
        seed: Seed of the learner.
        train: Number of training images of every class, or of each of the six.
        test: Number of test images of every class.
        plugins: Files of strategies that it wraps.

    Yields:
        The run: a `clgym.check.simulator.Simulator`, or for a strategy that learns at test time a
        `clgym.check.adapting.AdaptBench`.
    """
    from clgym.check.bench import NAME, Subject, quiet_torch

    with (
        quiet_torch(),
        workspace() as folder,
        registry.temporarily_registered("strategies", NAME, cls),
    ):
        subject = Subject(cls, cls.__name__, "", plugins, folder, config or {}, setting)
        yield subject.bench(seed=seed, train=train, test=test)
