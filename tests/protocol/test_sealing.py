"""What a study seals: the envelope, and when it looks at both sides of the pair."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import cast

import pytest

from clgym.engines.pool import PoolSpec
from clgym.errors import Tampered
from clgym.files import sha256
from clgym.protocol import study
from clgym.protocol.ledger import Ledger, read_ledger
from clgym.protocol.pairs import ScenarioPair, find_pair
from clgym.protocol.plan import Certificate
from clgym.protocol.runs import ExecutionOptions, Runs
from clgym.protocol.study import StudySpec, read_certificate, tune

Ask = Callable[..., StudySpec]


def where(out: Path, plugin: Path) -> ExecutionOptions:
    return ExecutionOptions(out, PoolSpec(), plugins=(plugin,))


def check_seal(folder: Path, sessions: int) -> Certificate:
    """Compare a certificate with the ledger before its seal."""
    entries = read_ledger(folder / "ledger.jsonl")
    place = next(n for n, entry in enumerate(entries) if entry.kind == "sealed")
    certificate = read_certificate(folder)
    envelope, body = certificate.envelope, certificate.body
    assert envelope.sealed_at == entries[place - 1].time
    assert envelope.wall_seconds == round(entries[place - 1].time - entries[0].time, 3) > 0
    assert envelope.sessions == sum(entry.kind == "session" for entry in entries) == sessions
    assert envelope.ledger_head == entries[place - 1].hash
    assert body.budget["started"] == len(body.trials) == 3
    assert body.device_class == body.plan.device == "cpu"
    text = (folder / "certificate.json").read_text()
    assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"
    assert entries[place].body == {"certificate": sha256(text.encode()), "hash": certificate.hash}
    return certificate


def test_the_envelope_follows_from_the_ledger(finished: Path) -> None:
    assert check_seal(finished, sessions=1).envelope.retries == 0


def test_retries_are_counted(finished: Path, tmp_path: Path, plugin: Path, asked: Ask) -> None:
    """Of both kinds, by a study that is sealed anew."""
    folder = tmp_path / "study"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "evaluations")
    (folder / "certificate.json").unlink()
    ledger = folder / "ledger.jsonl"
    entries = read_ledger(ledger)
    place = next(n for n, entry in enumerate(entries) if entry.kind == "sealed")
    lines = ledger.read_bytes().splitlines(keepends=True)[:place]
    ledger.write_bytes(b"".join(lines))
    opened = Ledger(folder)
    run = next(entry for entry in entries if entry.kind == "run")
    for _ in range(3):
        opened.append("retry", key=run.body["key"], error="killed")
    certificate = tune(asked(), where(folder, plugin))
    assert certificate == check_seal(folder, sessions=2)
    assert certificate.envelope.retries == 3
    assert certificate.hash == read_certificate(finished).hash, "retries are no part of the body"


def test_both_sides_are_looked_at_once(
    finished: Path, tmp_path: Path, plugin: Path, asked: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(finished, folder)

    def look(pair: ScenarioPair, root: Path | None) -> None:
        raise RuntimeError(f"looked at {pair.name}")

    monkeypatch.setattr(study, "survey", look)
    assert tune(asked(), where(folder, plugin)).hash == read_certificate(finished).hash
    other = find_pair("digits-t2", config={"memory_size": 7})
    with pytest.raises(RuntimeError, match="looked at digits-t2"):
        tune(replace(asked(), pair=other), where(folder, plugin))


class RunsOnThreeDevices:
    """What `body_of` reads of the runs of a study."""

    device_names = frozenset({"", "b", "a"})
    read_files: Mapping[str, str] = MappingProxyType({})

    class ledger:
        @staticmethod
        def of(kind: str) -> list[object]:
            return [None] * 2 if kind == "retry-failed" else []


def test_trials_beyond_the_cap_were_not_started_and_devices_are_named(finished: Path) -> None:
    """The budget counts every status of a trial, and runs that were repeated by choice."""
    body = read_certificate(finished).body
    statuses = ("over-cap", "over-cap", "failed")
    trials = [
        t.model_copy(update={"status": s}) for t, s in zip(body.trials, statuses, strict=True)
    ]
    made = study.body_of(body.plan, trials, list(body.chosen), cast(Runs, RunsOnThreeDevices()))
    counts = {"started": 1, "finished": 0, "failed": 1, "pruned": 0, "retried": 2}
    runs = [run for trial in trials for run in trial.runs]
    spent = {"runs": len(runs), "images": sum(run.images for run in runs)}
    assert made.budget == counts | spent
    assert (made.device_class, made.read_files) == ("a, b", None)


def test_what_is_no_certificate_is_described_by_its_first_fault(tmp_path: Path) -> None:
    (tmp_path / "certificate.json").write_text('{"hash": 1}')
    with pytest.raises(Tampered) as caught:
        read_certificate(tmp_path)
    assert caught.value.found.startswith("hash; Input should be")
    assert caught.value.found.count("; ") == 1


@pytest.mark.parametrize(
    ("names", "told"), [(("code",), True), (("mode", "code"), False), (("budget",), False)]
)
def test_only_other_code_is_a_reason_to_use_the_old_one(names: tuple[str, ...], told: bool) -> None:
    error = study._another(Path("out"), dict.fromkeys(names, 1), dict.fromkeys(names, 2))
    assert error.found == f"different {', '.join(names)}"
    assert ("or use the code that it began with" in error.fix) == told


@pytest.mark.parametrize("digit", "0f")
def test_a_certificate_with_another_hash_is_not_read(
    finished: Path, tmp_path: Path, digit: str
) -> None:
    content = json.loads((finished / "certificate.json").read_bytes())
    (tmp_path / "certificate.json").write_text(json.dumps({**content, "hash": digit * 64}))
    with pytest.raises(Tampered, match=rf"hash {digit * 16}\."):
        read_certificate(tmp_path)
