"""One run, one method over several seeds, or one study as a self-contained page."""

from pathlib import Path
from typing import Any

from clgym._version import __version__
from clgym.board.reading.found import Method, load_runs
from clgym.board.report import run_sections, study_sections
from clgym.board.report.parts import Note, Section
from clgym.errors import BadRecord
from clgym.protocol.verify import verify

__all__ = ["report"]

_HERE = Path(__file__).parent
"""Folder of the board's assets, which a report shares."""


def report(path: Path) -> str:
    """Return the page of a run, a method or a study; equal files give an equal page.

    Args:
        path: Output folder of a run, of a run with ``--seeds``, or of a study.

    Raises:
        BadRecord: Nothing is there, or several methods are.
        Tampered: The files of a study cannot be read.
    """
    methods = load_runs([path])
    if len(methods) > 1:
        raise BadRecord(
            expected=f"one method in {path}",
            found=", ".join(method.name for method in methods),
            fix="Give the folder of one method; `clgym plot` and `clgym board` show several",
        )
    method = methods[0]
    return _rendered(_title(method), _lead(method), _status(method, path), _sections(method))


def _title(method: Method) -> str:
    if method.study is not None:
        return f"{method.study.plan.strategy}, tuned and evaluated on {method.study.plan.pair.name}"
    return f"{method.name} on {method.results[0].scenario.name}"


def _lead(method: Method) -> str:
    if method.study is not None and not method.study.evaluations:
        return "This study has no complete evaluation, and so no result yet."
    seeds = ", ".join(str(result.seed) for result in method.results)
    setting = method.results[0].scenario.setting if method.runs else "no run succeeded"
    return f"{setting}; seed{'s' if len(method.runs) > 1 else ''} {seeds}"


def _sections(method: Method) -> list[Section]:
    if method.study is None:
        return run_sections.sections(method)
    *study, ledger = study_sections.sections(method.study)
    if method.runs:
        result, *rest = run_sections.sections(method)
        return [result, *study, *rest, ledger]
    shown = run_sections.pictures(method)
    return [*study, *([Section("Figures", list(shown))] if shown else []), ledger]


def _status(method: Method, path: Path) -> tuple[bool, list[str]]:
    """Whether all numbers agree with the stored files, and sentences about the result."""
    if method.study is not None:
        audit = verify(path)
        held = [f"{len(audit.checks)} checks of the study hold"]
        return not audit.problems, [*(audit.problems or held), *audit.notes]
    problems = []
    for run in method.runs:
        wrong = list(run.problems(predictions_needed=False))
        problems += [f"seed {run.result.seed}: {problem}" for problem in wrong]
        if not (wrong or run.has_predictions):
            problems.append(f"seed {run.result.seed}: its predictions are missing")
    inline = [r.record.environment.engine == "inline" for r in method.runs]
    notes = (
        ["gym and learner shared a process: the strategy could have read the labels"]
        if any(inline)
        else []
    )
    return not problems, [*(problems or ["all numbers agree with the predictions"]), *notes]


def _rendered(title: str, lead: str, status: tuple[bool, list[str]], parts: list[Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        style=Markup((_HERE.parent / "style.css").read_text(encoding="utf-8")),  # nosec B704
        title=title,
        lead=lead,
        holds=status[0],
        status=[Note(text) for text in status[1]],
        sections=parts,
        version=__version__,
    )
