"""How many studies were made depends on no clock, no name and no folder."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clgym.engines.pool import PoolSpec
from clgym.errors import Tampered
from clgym.protocol import ledger
from clgym.protocol.evaluation import evaluate
from clgym.protocol.ledger import read_ledger
from clgym.protocol.pairs import find_pair
from clgym.protocol.plan import Certificate
from clgym.protocol.relatives import REGISTRY, relatives
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import read_certificate, tune

HERE = PoolSpec("inline")
Make = Callable[..., Certificate]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of its own: no study is known in it."""
    monkeypatch.setenv("CLGYM_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def make(
    state: Path, tmp_path: Path, plugin: Path, asked: Callable, monkeypatch: pytest.MonkeyPatch
) -> Make:
    """Tune one trial of one seed into a folder; keywords change what is asked."""

    def tuned(folder: str, file: Path = plugin, **changed: Any) -> Certificate:
        wanted = replace(asked(trials=1, seeds=(0,)), **changed)
        certificate = tune(wanted, ExecutionOptions(tmp_path / folder, HERE, plugins=(file,)))
        monkeypatch.setenv("CLGYM_WITHHELD", "[]")  # as in a process that did not tune
        return certificate

    return tuned


def test_studies_in_other_folders_are_counted(make: Make, tmp_path: Path) -> None:
    assert make("here/one").envelope.study_number == 1
    assert make("there/two", sampler_seed=1).envelope.study_number == 2
    shutil.rmtree(tmp_path / "here")
    assert make("elsewhere/three", sampler_seed=2).envelope.study_number == 3


def test_a_clock_that_is_set_back_hides_no_study(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("studies/one")
    monkeypatch.setattr(ledger.time, "time", lambda: 1.0)
    assert make("studies/two", sampler_seed=1).envelope.study_number == 2


def test_a_renamed_file_is_the_same_method(make: Make, tmp_path: Path, plugin: Path) -> None:
    make("studies/one")
    other = Path(shutil.copy(plugin, tmp_path / "force.py"))
    renamed = make("studies/two", other, strategy="force")
    assert renamed.body.plan.strategy == "force"
    assert renamed.envelope.study_number == 2


@pytest.mark.parametrize("option", [{"memory_size": 51}, {"per_class": [60, 20]}])
def test_options_that_leave_the_evaluation_as_it_is_hide_no_study(
    make: Make, option: dict[str, Any]
) -> None:
    make("studies/one")
    other = make("studies/two", pair=find_pair("digits-t2", config=option))
    assert other.body.plan.pair_hash != find_pair("digits-t2").digest
    assert other.envelope.study_number == 2


def test_other_methods_and_evaluations_are_not_counted(
    make: Make, tmp_path: Path, plugin: Path
) -> None:
    make("studies/one")
    text = plugin.read_text().replace('"""Class means', '"""Other class means')
    other = tmp_path / "force.py"
    other.write_text(text)
    assert make("studies/two", other, strategy="force").envelope.study_number == 1
    swapped = find_pair("mine", "digits[5-9]", "digits[0-4]", "class-incremental", {"first": 3})
    swapped = swapped.model_copy(update={"config": find_pair("digits-t2").config})
    assert make("studies/three", pair=swapped).envelope.study_number == 1


def test_a_copy_is_the_same_study(make: Make, state: Path, tmp_path: Path, plugin: Path) -> None:
    make("studies/one")
    one, copy = tmp_path / "studies/one", tmp_path / "studies/copy"
    shutil.copytree(one, copy)
    plan = read_certificate(one).body.plan
    found = relatives(one, plan)
    assert (found.number, found.evaluations) == (1, 0)
    evaluate(copy, HERE, plugins=(plugin,))
    assert relatives(one, plan).evaluations == 1, "an evaluation of the copy is one of the study"
    shutil.rmtree(copy)
    assert relatives(one, plan).evaluations == 1
    assert evaluate(one, HERE, plugins=(plugin,)).evaluations_before == 1


def test_studies_from_elsewhere_are_counted_where_they_lie(
    finished: Path, make: Make, tmp_path: Path
) -> None:
    """The registry does not know it: it stands beside the new one, with its evaluation."""
    shutil.copytree(finished, tmp_path / "studies/theirs")
    envelope = make("studies/mine").envelope
    assert (envelope.study_number, envelope.evaluations_before) == (2, 1)
    file = tmp_path / "studies/theirs/ledger.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:2]))
    plan = read_certificate(tmp_path / "studies/mine").body.plan
    found = relatives(tmp_path / "studies/mine", plan)
    assert (found.number, found.evaluations) == (1, 0)  # refused before a run of it had ended


def test_a_later_study_does_not_change_the_number_of_an_earlier_one(
    make: Make, tmp_path: Path
) -> None:
    make("studies/one")
    make("studies/two", sampler_seed=1)
    plan = read_certificate(tmp_path / "studies/one").body.plan
    assert relatives(tmp_path / "studies/one", plan).number == 1


def test_the_certificate_names_the_registry_it_was_counted_in(make: Make, state: Path) -> None:
    envelope = make("studies/one").envelope
    assert envelope.registry == read_ledger(state / REGISTRY)[-1].hash
    lines = (state / REGISTRY).read_bytes().splitlines()
    body = json.loads(lines[0])
    body["body"]["strategy"] = body["body"]["code"] = "another"
    (state / REGISTRY).write_text(json.dumps(body) + "\n")
    with pytest.raises(Tampered, match="registry of studies"):
        make("studies/two", sampler_seed=1)
