"""Make entries of a study's evaluations, after an audit of the whole study.

The audit is that of `clgym verify`, without repeating runs. If it finds a problem, no evaluation of
the study is shown. If files are merely absent (a board need not keep the predictions of every
tuning run), the evaluation is self-reported instead.
"""

import re
from pathlib import Path

import pydantic

from clgym.board.reading.entries import (
    BY_AUTHOR,
    Board,
    BoardEntry,
    Missing,
    Score,
    Tuning,
    file_of,
    place_of,
)
from clgym.board.reading.study_sets import place_in_set
from clgym.errors import BadRecord
from clgym.protocol.bands import above_band
from clgym.protocol.evaluation import Evaluation, SeedResult
from clgym.protocol.ledger import NAME as LEDGER
from clgym.protocol.ledger import read_ledger
from clgym.protocol.outcome import evaluation_files
from clgym.protocol.plan import Body, Certificate
from clgym.protocol.study import CERTIFICATE
from clgym.protocol.verify import verify
from clgym.results.grouping import classifier_of, identity
from clgym.results.layout import PREDICTIONS, is_run
from clgym.results.predictions import NO_FILE
from clgym.results.stored import open_run

__all__ = ["add_study"]

_SHOWN = 3
"""Maximum number of problems that a reason lists."""
_NO_PREDICTIONS = re.compile(rf"(seed -?\d+: )?(experience \d+: )?{PREDICTIONS}: {NO_FILE}")
"""Pattern of a whole problem, so that text from a study's files cannot be mistaken for one."""


def add_study(board: Board, root: Path, folder: Path) -> None:
    """Add the evaluations of a study, or the reason why they are left out."""
    place = place_of(folder, root)
    if not (folder / LEDGER).is_file():
        board.refuse(place, "a certificate without its ledger")
        return
    audit = verify(folder)
    wrong = [problem for problem in audit.problems if not _absent(folder, problem)]
    if wrong:
        more = f"; {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        board.refuse(place, "; ".join(wrong[:_SHOWN]) + more)
        return
    for note in audit.notes:
        board.refuse(place, note)
    evaluations = evaluation_files(folder, read_ledger(folder / LEDGER)).values()
    if not (evaluations or audit.notes):
        board.refuse(place, "sealed but not evaluated yet")
    for file in evaluations:
        _add(board, root, file, verified=not audit.problems)


def _absent(folder: Path, problem: str) -> bool:
    """Whether a problem only says that a file is absent: a tuning run's record, or predictions."""
    where, _, what = problem.partition(": ")
    if what == "its record is missing" and not where.startswith("evaluation "):
        return not is_run(folder / where)
    return _NO_PREDICTIONS.fullmatch(what) is not None


def _add(board: Board, root: Path, file: Path, verified: bool) -> None:
    """Add one evaluation, whose records are recomputed once more by the rules of the board."""
    place = place_of(file.parent, root)
    try:
        evaluation = Evaluation.model_validate_json(file.read_bytes())
        study = file.parents[2]
        certificate = Certificate.model_validate_json((study / CERTIFICATE).read_bytes())
        scores = [
            _score(file.parent, place, seed) for seed in evaluation.seeds if seed.status == "done"
        ]
    except (pydantic.ValidationError, OSError) as error:
        board.refuse(place, f"the study cannot be read ({type(error).__name__})")
        return
    except BadRecord as error:
        board.refuse(place, file_of(error))
        return
    for score in scores:
        verified = verified and score.run.has_predictions
        if problems := list(score.run.problems(predictions_needed=False)):
            board.refuse(score.place, "; ".join(problems[:_SHOWN]))
            return
    if len({classifier_of(score.record.result) for score in scores}) > 1:
        board.refuse(place, "its seeds started from different classifiers, so no mean exists")
    elif scores:
        flags = board.flags_of(scores)
        board.entries.append(_entry(evaluation, certificate, scores, verified, flags))
    else:
        board.refuse(place, "every seed failed")


def _score(folder: Path, place: str, seed: SeedResult) -> Score:
    # only the name: a path in the file must not lead outside the folder
    name = Path(str(seed.record)).name
    return Score(open_run(folder / name), f"{place}/{name}")


def _entry(
    evaluation: Evaluation,
    certificate: Certificate,
    scores: list[Score],
    verified: bool,
    run_flags: list[str],
) -> BoardEntry:
    plan, first = certificate.body.plan, scores[0].record.result
    flags = {*evaluation.flags, *run_flags}
    if above := above_band(evaluation):
        flags.add(above)
    if evaluation.study_number > 1:
        flags.add(f"study {evaluation.study_number} of this strategy and pair")
    if evaluation.evaluations_before:
        flags.add(f"{evaluation.evaluations_before} evaluations before this study")
    if evaluation.evaluation_number > 1:
        flags.add(f"evaluation {evaluation.evaluation_number} of this certificate")
    failed = [seed for seed in evaluation.seeds if seed.status == "failed"]
    return BoardEntry(
        id=identity([evaluation.hash]),
        strategy=first.strategy.label,
        config=first.strategy.config,
        scores=tuple(scores),
        missing=tuple(Missing(seed.seed, f"failed: {seed.error}") for seed in failed),
        verified=verified,
        flags=tuple(sorted(flags)),
        stream={
            "name": plan.pair.name,
            "setting": first.scenario.setting,
            "options": plan.pair.config,
            "sources": [[plan.tuning.name, plan.tuning.fingerprint]]
            + [[source.name, source.fingerprint] for source in first.sources],
            "pair": evaluation.pair_hash,
            "model": first.adaptation and [first.adaptation.model.name, classifier_of(first)],
            "part": first.part,
        },
        tuning=_tuning(evaluation, certificate),
        study=place_in_set(plan, evaluation.evaluation_number),
    )


def _tuning(evaluation: Evaluation, certificate: Certificate) -> Tuning:
    body = certificate.body
    untuned = body.plan.mode == "default" and body.plan.set_by_hand
    # If hyper-parameters were chosen for each stream separately, the trials form no single curve.
    single = len(body.chosen) == 1 and len(body.chosen[0].configs) == 1
    return Tuning(
        mode=BY_AUTHOR if untuned else body.plan.mode,
        pair=body.plan.pair.name,
        score=evaluation.tuning_score,
        trials=tuple(trial.score for trial in body.trials) if single else (),
        seconds=evaluation.tuning_seconds,
        certificate=_facts(evaluation, body),
    )


def _facts(evaluation: Evaluation, body: Body) -> dict[str, object]:
    plan = body.plan
    budget = ", ".join(f"{count:,} {name}" for name, count in body.budget.items())
    chosen = {
        "all" if choice.seed is None else f"seed {choice.seed}": list(choice.configs)
        for choice in body.chosen
    }
    return {
        "certificate": evaluation.certificate,
        "protocol": evaluation.protocol,
        "pair": f"{plan.pair.name}: tuned on {plan.pair.tuning.words}; evaluated on "
        f"{plan.pair.evaluation.words}",
        "mode": plan.mode,
        "chosen": chosen["all"][0]
        if list(chosen) == ["all"] and len(chosen["all"]) == 1
        else chosen,
        "criterion": plan.criterion,
        "scored on while tuning": plan.score_on,
        "sampler": plan.sampler,
        **({"early stopping": plan.pruner.words} if plan.pruner else {}),
        "budget": budget,
        "tuning score of the chosen hyper-parameters": evaluation.tuning_score,
        "tuning seeds": list(plan.seeds),
        "evaluation seeds": list(plan.evaluation_seeds),
        "study": f"{evaluation.study_number} of this strategy and pair there",
        "evaluation": f"{evaluation.evaluation_number} of this certificate; "
        f"{evaluation.evaluations_before} before the study",
        "strategy's file": plan.source_hash,
        "code when tuned": plan.code.commit or plan.code.tree,
        "code when evaluated": evaluation.code.commit or evaluation.code.tree,
        "evaluation's hash": evaluation.hash,
    }
