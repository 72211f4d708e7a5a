"""Layout, ownership and locking of a run's output folder."""

import contextlib
import json
import re
import shutil
import stat
from collections.abc import Generator, Mapping
from pathlib import Path, PurePath

from clgym.draws import other_draws
from clgym.errors import BadAnswer, BadOutput, BadRecord
from clgym.files import (
    canonical_json,
    clear_parts,
    locked,
    part_name,
    sha256,
    write_atomic,
    writing,
)
from clgym.gym.plan import ResolvedRun
from clgym.results.layout import PREDICTIONS, RECORD, STATE, is_run
from clgym.results.record import DeletionResult, Record, Result
from clgym.results.stored import StoredRun, open_run
from clgym.scenario import kind_of
from clgym.text import Json

__all__ = [
    "ANOTHER",
    "DUE",
    "SHOWN",
    "PROGRESS",
    "LEARNER",
    "lock",
    "check_earlier",
    "check_reference",
    "acquire",
    "check_available",
    "STATES",
    "keep_state",
    "renew_folder",
    "take_state",
    "write_record",
    "provenance",
    "without_paths",
]

_RUN, PROGRESS, _LOCK = "run.json", "progress.json", ".lock"
LEARNER = "learner"
"""Folder that a learner writes to; the rest of an output folder belongs to the gym."""
STATES = "states"
"""Folder of the states that the gym took from there, which learners may read."""
DUE = "due"
"""Folder of the images that are being learned, which the learner may read."""
SHOWN = "shown"
"""Folder of the images of a test, which its learner may read."""
_SHAPING = {"network": None, "model": None, "hidden": [100]}
"""Options that determine the network's shape, with the values assumed for records without them."""
ANOTHER = "the files of a run with other options, code or data"


def check_earlier(plan: ResolvedRun) -> None:
    """Check the finished run of the first experiences that a plan continues, if any.

    Of the strategy's options only those that determine the network's shape must agree: some modes
    of tuning change the others from experience to experience.

    Raises:
        BadRecord: The run is of another stream, strategy or seed, or its files are incomplete.
    """
    folder = plan.request.after
    if folder is None:
        return
    earlier = open_run(folder)
    # The continued run would belong to neither release.
    draws = other_draws(earlier.record.environment.clgym)
    different = _difference(plan, earlier.result) or draws or _missing(earlier)
    if different is not None:
        raise BadRecord(
            expected="a finished run of the first experiences: same stream, strategy, seed",
            found=f"one {different} in {folder}",
            fix="Give the run to continue, or repeat the first experiences",
        )


def check_reference(plan: ResolvedRun) -> None:
    """Check the finished run that serves as the reference of distances, if any.

    Raises:
        BadRecord: It is of another stream or seed, did not get the remaining rows, or its files are
            incomplete.
    """
    folder = plan.request.reference
    if folder is None:
        return
    reference = open_run(folder)
    result = reference.result
    found = None
    if not isinstance(result, DeletionResult):
        found = f"one of a {result.kind} stream"
    elif result.scenario.digest != plan.stream.digest:
        found = "one of another stream"
    elif result.seed != plan.request.seed:
        found = f"one with seed {result.seed} for a run with seed {plan.request.seed}"
    elif not result.deletion.retained_data:
        found = f"one of {result.strategy.label}, which was not given the rows that remain"
    elif not _is_predicted(reference):
        found = f"one without its {PREDICTIONS}"
    if found is not None:
        raise BadRecord(
            expected=f"a finished run of {plan.stream.name} that trained anew after each request",
            found=f"{found} in {folder}",
            fix="Run `clgym run retrain` on the same stream with the same seeds, and give its "
            "folder to --reference; with --seeds the folder of all seeds",
        )


def _difference(plan: ResolvedRun, result: Result) -> str | None:
    """Text about how a run differs from the first experiences of a plan; None if it does not."""
    stream, count, config = plan.stream, len(result.accuracy_matrix), plan.strategy_config
    begun = kind_of(stream) != "adaptation" and count < len(stream)
    leaves = {name: name.rpartition(".")[2] for name in config}
    shaping = {name: _SHAPING[leaf] for name, leaf in leaves.items() if leaf in _SHAPING}
    weights = plan.backbone.weights if plan.backbone else None
    same = {
        "with experiences that were not tested": None not in result.accuracy_after,
        "of another stream": begun and stream.part(0, count).digest == result.scenario.digest,
        "with another seed": result.seed == plan.request.seed,
        "of another strategy": result.strategy.source_hash == plan.strategy.source_hash,
        "with another network": weights == (result.backbone.weights if result.backbone else None)
        and all(result.strategy.config.get(n, old) == config[n] for n, old in shaping.items()),
    }
    return next((words for words, equal in same.items() if not equal), None)


def _missing(run: StoredRun) -> str | None:
    """Text about files of a run that are missing or changed; None if all are present."""
    if not _is_predicted(run):
        return f"without its {PREDICTIONS}"
    return None if (run.folder / STATE).is_file() else f"without its {STATE}"


def _is_predicted(run: StoredRun) -> bool:
    """Whether the predictions of a run are present and unchanged."""
    try:
        run.predictions()
    except BadRecord:
        return False
    return True


def acquire(plan: ResolvedRun) -> Record | None:
    """Claim the locked folder for a plan; return the record if another process finished the run.

    Raises:
        BadOutput: The folder belongs to another run, or cannot be written.
    """
    record = check_available(plan)
    clear_parts(plan.out, alone=True)
    if not (plan.out / _RUN).is_file():
        write_atomic(plan.out / _RUN, canonical_json({"key": plan.key}))
    return record


def check_available(plan: ResolvedRun) -> Record | None:
    """Check that a plan may use its output folder; return its record if it is finished.

    Raises:
        BadOutput: The folder belongs to another run, cannot be read, or holds a record that was
            changed after the run wrote it.
    """
    out, note = plan.out, plan.out / _RUN
    with writing(out):
        inside = {p.name for p in out.iterdir()} if out.is_dir() else set[str]()
    if _RUN in inside:
        claim = _claim(note)
        if claim.get("key") != plan.key:
            raise BadOutput(
                expected=f"{out} to be empty or to belong to this run",
                found=ANOTHER,
                fix="Give another --out, or delete that folder",
            )
        return _finished(out, claim) if is_run(out) else None
    foreign = sorted(inside & {RECORD, STATE, PREDICTIONS, PROGRESS})
    if foreign or (out.exists() and not out.is_dir()):
        raise BadOutput(
            expected=f"{out} to be an empty folder",
            found=f"another run's {foreign[0]}" if foreign else "a file",
            fix="Give another --out",
        )
    return None


def _claim(note: Path) -> dict[str, str]:
    """Owner of the folder; empty if the note is damaged."""
    try:
        claim: Json = json.loads(note.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(claim, dict) or not claim.keys() <= {"key", "record"}:
        return {}
    return {name: value for name, value in claim.items() if isinstance(value, str)}


def _finished(out: Path, claim: Mapping[str, str]) -> Record:
    """Record of a finished run, after a check that it was not changed."""
    found = "other content"
    try:
        run = open_run(out)
        # The claim names no hash where an earlier version wrote the folder.
        if claim.get("record") in (None, run.sha256):
            return run.record
    except BadRecord as error:
        found = error.found
    raise BadOutput(
        expected=f"{RECORD} in {out} as the run wrote it",
        found=found,
        fix="Restore the file, or delete that folder and repeat the run",
    )


@contextlib.contextmanager
def lock(plan: ResolvedRun) -> Generator[None, None, None]:
    """Lock the folder for one process; afterwards delete it if it contains only the claim.

    The lock is a separate file: the other files are renamed into place, and a lock on a replaced
    file has no effect.

    Raises:
        BadOutput: Another process works in the folder.
    """
    with locked(plan.out / _LOCK):
        try:
            yield
        finally:
            _release(plan)


def _release(plan: ResolvedRun) -> None:
    """Delete the lock file while it is held; a waiting process creates another one."""
    with contextlib.suppress(OSError):
        for folder in (plan.out / name for name in (LEARNER, STATES, DUE, SHOWN)):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        if {p.name for p in plan.out.iterdir()} <= {_RUN, _LOCK}:
            (plan.out / _RUN).unlink(missing_ok=True)
            (plan.out / _LOCK).unlink()
            plan.out.rmdir()
        else:
            (plan.out / _LOCK).unlink()


def take_state(out: Path, name: str) -> Path:
    """Move a state that the learner wrote to where no learner can write; return its new path.

    Raises:
        BadAnswer: It is no file: through a link a later learner would read another one.
        BadOutput: The output folder cannot be written.
    """
    written, kept = out / LEARNER / name, out / STATES / name
    with writing(kept):
        kept.parent.mkdir(exist_ok=True)
        written.replace(kept)
    if not stat.S_ISREG(kept.lstat().st_mode):
        found = "a link to another file" if kept.is_symlink() else "something else"
        kept.unlink()
        raise BadAnswer(
            expected=f"a file with the learner's state at {name}",
            found=found,
            fix="A plugin must not change the files that the learner writes",
        )
    return kept


def keep_state(out: Path, name: str | None) -> None:
    """Delete the states that were taken, except one."""
    folder = out / STATES
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name != name:
            path.unlink()


def renew_folder(folder: Path) -> None:
    """Put an empty folder in the place of the one that a learner wrote to.

    What else a plugin left there is out of reach of later learners, even if it cannot be deleted.

    Raises:
        BadOutput: The output folder cannot be written.
    """
    aside = folder.with_name(part_name(folder.name))
    with writing(folder):
        folder.replace(aside)
        folder.mkdir()
    with contextlib.suppress(RecursionError):  # of folders in folders in folders
        shutil.rmtree(aside, ignore_errors=True)


def provenance(plan: ResolvedRun) -> dict[str, object]:
    """Fields of a result that are known in advance: strategy, stream, sources, seeds."""
    return {
        "strategy": {
            "name": plan.strategy.name,
            "source_hash": plan.strategy.source_hash,
            "config": without_paths(plan.strategy_config),
            "known_failures": plan.strategy.known_failures,
        },
        "scenario": {
            "name": plan.scenario.name,
            "config": without_paths(plan.scenario.config),
            "setting": plan.stream.setting,
            "digest": plan.stream.digest,
        },
        "sources": [
            {"name": s.name, "fingerprint": s.fingerprint, "flags": list(s.flags)}
            for s in plan.sources
        ],
        "seed": plan.request.seed,
        "order_seed": plan.request.order_seed,
    }


_SOURCE = re.compile(r"\b(npz|folder|list):([^,\[]+)")


def without_paths(config: Mapping[str, object]) -> dict[str, object]:
    """Options with paths reduced to file names, since a record contains no paths."""
    shortened = dict(config)
    for key, value in config.items():
        option = key.rpartition(".")[2]
        if not isinstance(value, str):
            continue
        if option in ("model", "prototypes"):
            network, at, file = value.rpartition("@")
            shortened[key] = f"{network}{at}{PurePath(file).name}"
        elif option == "source" or _SOURCE.match(value):
            shortened[key] = _SOURCE.sub(lambda m: f"{m[1]}:{PurePath(m[2].strip()).name}", value)
    return shortened


def write_record(out: Path, record: Record, key: str) -> None:
    """Write a finished run's record, and add its hash to the folder's claim."""
    data = (json.dumps(record.model_dump(mode="json"), indent=1) + "\n").encode()
    write_atomic(out / RECORD, data)
    write_atomic(out / _RUN, canonical_json({"key": key, "record": sha256(data)}))
