"""An evaluation as a table, and what follows from its records: summary and flags."""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from clgym.protocol.outcome import Evaluation, SeedResult, following, measured, summarised
from clgym.protocol.plan import Code, Pruner
from clgym.protocol.study import read_certificate
from clgym.results.stored import open_run


def _evaluation(finished: Path) -> Evaluation:
    return Evaluation.model_validate_json((finished / "evaluations/1/evaluation.json").read_bytes())


def test_every_seed_then_mean_and_deviation(finished: Path) -> None:
    heads, rows = measured(_evaluation(finished), adapts=False)
    assert heads == ["last accuracy", "average incremental accuracy", "forgetting"]
    written = json.loads((finished / "evaluations/1/evaluation.json").read_text())
    assert rows[:-2] == [[seed[h.replace(" ", "_")] for h in heads] for seed in written["seeds"]]
    assert rows[-2] == [written["summary"][h.replace(" ", "_")]["mean"] for h in heads]


def test_adaptation_streams_are_summarised_by_their_error(finished: Path) -> None:
    heads, rows = measured(_evaluation(finished), adapts=True)
    accuracies = [seed.last_accuracy or 0.0 for seed in _evaluation(finished).seeds]
    assert heads == ["mean error"]
    assert rows[:-2] == [[1 - accuracy] for accuracy in accuracies]
    spread = _evaluation(finished).summary["last_accuracy"]
    assert rows[-2:] == [[1 - (spread.mean or 0.0)], [spread.std]]


def test_missing_measures_are_empty_cells_of_the_table(finished: Path) -> None:
    empty = _evaluation(finished).model_copy(update={"summary": {}})
    assert measured(empty, adapts=True)[1][-2:] == [[None], [None]]
    poor = [seed.model_copy(update={"last_accuracy": 0.25}) for seed in empty.seeds]
    rows = measured(empty.model_copy(update={"seeds": poor}), adapts=True)[1]
    assert rows[:-2] == [[0.75]] * len(poor)


def _seeds(*accuracies: float | None) -> list[SeedResult]:
    """Results of seeds with these last accuracies; None for a failed seed."""
    return [
        SeedResult(seed=n, status="failed" if a is None else "done", last_accuracy=a)
        for n, a in enumerate(accuracies)
    ]


@pytest.mark.parametrize("accuracies", [(0.5, 0.25, 0.75), (0.5, 0.25), (0.5,)])
def test_seeds_are_summarised_by_mean_and_sample_deviation(accuracies: tuple[float, ...]) -> None:
    found = summarised(_seeds(*accuracies))["last_accuracy"]
    std = statistics.stdev(accuracies) if len(accuracies) > 1 else None
    assert found == pytest.approx({"mean": statistics.mean(accuracies), "std": std})


def test_a_failed_seed_leaves_no_summary() -> None:
    assert summarised(_seeds(0.5, None))["last_accuracy"] == {"mean": None, "std": None}


class Flags:
    """Flags of the finished study's evaluation, of which a part may be replaced."""

    def __init__(self, finished: Path) -> None:
        self.certificate = read_certificate(finished)
        self.code = self.certificate.body.plan.code
        self.seeds = _evaluation(finished).seeds
        folder = finished / "evaluations/1"
        self.records = [open_run(folder / str(seed.record)).record for seed in self.seeds]

    def with_body(self, **changed: Any) -> "Flags":
        body = self.certificate.body.model_copy(update=changed)
        self.certificate = self.certificate.model_copy(update={"body": body})
        return self

    def with_plan(self, **changed: Any) -> "Flags":
        return self.with_body(plan=self.certificate.body.plan.model_copy(update=changed))

    def reading(self, *files: dict[str, str]) -> "Flags":
        """Each seed has read files, by name and hash."""
        self.records = [
            record.model_copy(
                update={"environment": record.environment.model_copy(update={"read_files": names})}
            )
            for record, names in zip(self.records, files, strict=True)
        ]
        return self

    def new(self, usual: "Flags") -> set[str]:
        """Flags that the other one lacks."""
        return set(self._all()) - set(usual._all())

    def _all(self) -> list[str]:
        found = following(self.certificate, self.code, self.seeds, self.records)["flags"]
        assert isinstance(found, list)
        return found


@pytest.mark.parametrize("name", sorted(Code.model_fields))
def test_code_that_changed_since_tuning_is_flagged_but_for_the_commit(
    finished: Path, name: str
) -> None:
    flags = Flags(finished)
    old = getattr(flags.code, name)
    other: Any = {**old, "numpy": "0.0"} if isinstance(old, dict) else "another"
    flags.code = flags.code.model_copy(update={name: other})
    wanted = set() if name == "commit" else {f"{name} changed since tuning"}
    found = {flag for flag in flags.new(Flags(finished)) if "changed since tuning" in flag}
    assert found == wanted


def test_facts_of_the_study_are_flagged(finished: Path) -> None:
    usual, body = Flags(finished), read_certificate(finished).body
    for retried, words in ((1, "1 failed tuning run was"), (2, "2 failed tuning runs were")):
        flags = Flags(finished).with_body(budget={**body.budget, "retried": retried})
        assert flags.new(usual) == {f"{words} retried"}
    one_of_three = Flags(finished).with_plan(one_of=(2, 3), sampler_seed=1)
    assert one_of_three.new(usual) == {"study 2 of 3: their median is the result"}
    pruner = Pruner(rule="median", rungs=(1,))
    trials = [
        t.model_copy(update={"status": s}) for t, s in zip(body.trials, STATUSES, strict=True)
    ]
    stopped = Flags(finished).with_plan(pruner=pruner).with_body(trials=tuple(trials))
    assert any(flag.startswith("1 of 3 trials were stopped early") for flag in stopped.new(usual))
    failed = Flags(finished)
    failed.seeds = [failed.seeds[0], failed.seeds[1].model_copy(update={"status": "failed"})]
    assert failed.new(usual) == {"1 of 2 seeds failed"}


STATUSES = ("done", "pruned", "failed")


def test_files_that_tuning_did_not_read_are_flagged(finished: Path) -> None:
    known = {"side.txt": "0" * 64}
    usual = Flags(finished).with_body(read_files=known).reading(known, known)
    assert not [flag for flag in usual.new(Flags(finished)) if "side.txt" in flag]
    more = Flags(finished).with_body(read_files=known).reading(known, {**known, "b.txt": "1" * 64})
    assert more.new(usual) == {"read b.txt, which tuning did not"}
