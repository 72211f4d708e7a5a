"""`clgym.testing`: the suite as pytest cases, and a run step by step."""

import numpy as np
import pytest

from clgym.check import strategy_checks
from clgym.errors import BadConfig, Incompatible
from clgym.learner.assembly import strategy_class
from clgym.strategy import Strategy
from clgym.testing import CheckCase, CheckFailed, parametrize_with_checks, simulate
from factories import PLUGINS

NMC = strategy_class("nmc")
MEANS = strategy_class("means", [str(PLUGINS / "means.py")])


@parametrize_with_checks(NMC)
def test_a_strategy_conforms(check: CheckCase) -> None:
    check()


def test_there_is_a_case_for_every_check_of_every_class() -> None:
    def case(check: CheckCase) -> None:
        check()

    marked = parametrize_with_checks(NMC, MEANS)(case)
    (mark,) = marked.pytestmark  # type: ignore[attr-defined]
    names = [check.name for check in strategy_checks()]
    assert mark.kwargs["ids"] == [f"{c.__name__}-{n}" for c in (NMC, MEANS) for n in names]


class Peeks(NMC):
    """Reads labels where there are any."""

    def predict(self, batch):
        logits = super().predict(batch)
        return logits if (y := vars(batch).get("labels")) is None else logits + y[:, None].cos()


class Wide(NMC):
    """Answers for classes that have not come."""

    def predict(self, batch):
        logits = super().predict(batch)
        return logits.new_zeros(len(logits), logits.shape[1] + 1)


def test_a_fault_is_found_without_a_private_name() -> None:
    with pytest.raises(CheckFailed, match="no-labels.*change with the labels"):
        CheckCase(Peeks, "no-labels")()
    with pytest.raises(CheckFailed, match="unseen-classes.*when 2 classes"):
        CheckCase(Wide, "unseen-classes")()


def test_a_run_step_by_step() -> None:
    with simulate(NMC, setting="task-incremental") as run:
        assert [step.classes for step in run.stream.steps] == [(0, 1), (2, 3), (4, 5)]
        run.train(0)
        assert run.predict(0).shape == (8, 2)
        run.train(1)
        logits = run.predict(1)
        assert logits.shape == (16, 4) and np.isfinite(logits).all()
        assert isinstance(run.strategy, Strategy)
        assert len(run.state()) > 100


def test_options_are_checked_as_in_a_run() -> None:
    with pytest.raises(BadConfig, match="batch_size"), simulate(NMC, config={"batch_size": 0}):
        pass
    lame = strategy_class("lame")
    with pytest.raises(Incompatible), simulate(lame, setting="class-incremental"):
        pass


def test_the_suite_touches_no_private_name_of_others() -> None:
    """Names with an underscore are read on ``self`` and ``cls`` only."""
    import ast
    from pathlib import Path

    import clgym.check

    for file in Path(clgym.check.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and node.attr[0] == "_" and node.attr[1] != "_":
                owner = ast.unparse(node.value)
                assert owner in ("self", "os"), f"{file.name}: {owner}.{node.attr}"
