"""Build the command that repeats a run from the run's record."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from clgym.cli._flags import as_text
from clgym.cli._run_options import run_options
from clgym.draws import other_draws
from clgym.results.record import Record

__all__ = ["rerun", "verify_again"]


def rerun(record: Record, plugins: Sequence[Path] = ()) -> str:
    """The ``clgym run`` line with every option of a record, ready for a shell.

    A record holds only the names of files that options refer to (a model's weights): run the
    command in the folder of these files.

    Returns:
        The command, or a shell comment that says why there is none.
    """
    result, where = record.result, record.environment
    if result.part is not None or result.scored_on != "test":
        return "# part of a study: `clgym verify FOLDER --rerun` repeats the whole"
    taken = run_options()
    strategy, scenario = result.strategy.config, result.scenario.config
    words = ["clgym", "run", result.strategy.name, result.scenario.name]
    if isinstance(source := scenario.get("source"), str):
        words += ["--source", source]
    words += ["--seed", str(result.seed)]
    words += [] if result.order_seed is None else ["--order-seed", str(result.order_seed)]
    words += ["--device", where.device, "--threads", str(where.threads)]
    words += [] if result.numerics is None else result.numerics.words()
    words += [] if where.engine == "process" else ["--engine", where.engine]
    words += [word for file in plugins for word in ("--plugin", str(file))]
    words += _flags("strategy", strategy, taken)
    own = {name: value for name, value in scenario.items() if name not in taken}
    words += _flags("scenario", own, {*taken, *strategy})
    line = shlex.join(words)
    if (draws := other_draws(where.clgym)) is not None:
        line += f"  # {draws}"
    return line if line.isprintable() else "# an option holds characters that no command can"


def verify_again(folder: Path, plugins: Sequence[Path] = ()) -> str:
    """The ``clgym verify`` line that repeats evaluation runs of a study."""
    files = [word for file in plugins for word in ("--plugin", str(file))]
    return shlex.join(["clgym", "verify", str(folder), "--rerun", *files])


def _flags(owner: str, values: Mapping[str, object], taken: set[str]) -> Iterator[str]:
    for name, value in values.items():
        plain = name.replace("_", "-")
        yield f"--{owner}.{plain}" if name in taken else f"--{plain}"
        if isinstance(value, (list, tuple)):
            yield from map(as_text, value or [""])
        else:
            yield as_text(value)
