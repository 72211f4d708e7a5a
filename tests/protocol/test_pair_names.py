"""A pair bears the name of a preset only if it is that preset."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clgym.data.sources import load_source
from clgym.engines.pool import PoolSpec
from clgym.errors import BadPlan
from clgym.files import canonical_json
from clgym.protocol.ledger import START, LedgerEntry
from clgym.protocol.pairs import PAIRS, ScenarioPair, check_name, find_pair, name_problems, side
from clgym.protocol.plan import StudyPlan
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import StudySpec, tune
from clgym.protocol.verify import verify

EASY = {"tuning": side("digits[0-1]"), "evaluation": side("digits[2-3]")}


def easy(name: str) -> ScenarioPair:
    """Another pair than the preset digits-t2."""
    return find_pair("digits-t2").model_copy(update={**EASY, "name": name})


DIGESTS = {
    "c50-t10": "e3988335",
    "c50-t6": "70b0a629",
    "i50-t10": "636c8321",
    "i50-t6": "f3a9345a",
    "i100-t10": "212f88d6",
    "i100-t6": "4971e18b",
    "cub-t10": "95137ce8",
    "cub-t20": "c14aae45",
    "r-t10": "c3f80070",
    "r-t20": "4e85da88",
    "r-a-t10": "3d12f5ff",
    "r-a-t20": "0aecc784",
    "digits-t2": "ca4af935",
    "lite-c50": "0305291b",
    "lite-c50-v2": "fd35be37",
    "lite-c20": "e77923ad",
    "digits-c-v1": "e37ac64a",
    "digits-c-v2": "29f0f2c6",
    "cifar10-c-v1": "b2342bf6",
    "cifar10-c-v2": "f6fca6ca",
    "cifar100-c-v1": "66b1d6a3",
    "cifar100-c-v2": "3ac30632",
    "imagenet100-c-v1": "c34bdd4c",
    "imagenet100-c-v2": "c2b1d8e3",
    "cifar100-cifar10-c-v1": "c9128464",
    "cifar100-cifar10-c-v2": "948da008",
}


def test_a_preset_that_changes_gets_a_new_name() -> None:
    """Studies made under the name would no longer verify."""
    found = {name: pair.digest[:8] for name, pair in PAIRS.items()}
    assert {name: found[name] for name in DIGESTS} == DIGESTS


@pytest.mark.parametrize(
    "name", ["digits-t2", "digits_t2", "Digits-T2", "digits-t2~1a2b3c4d", "digits-t2~"]
)
def test_another_pair_under_the_name_of_a_preset_is_refused(tmp_path: Path, name: str) -> None:
    out = tmp_path / "study"
    with pytest.raises(BadPlan, match="a pair under its own name; found the pair .* has the sides"):
        tune(StudySpec("nmc", easy(name), mode="default"), ExecutionOptions(out))
    assert not out.exists()


@pytest.mark.parametrize("name", ["", "a b", "../a", "a/b", "naïve", "a\n", "<b>"])
def test_names_that_are_no_plain_words_are_refused(name: str) -> None:
    with pytest.raises(BadPlan, match="a name of letters, digits"):
        check_name(easy(name))
    with pytest.raises(BadPlan, match="a name of letters, digits"):
        find_pair(name, "digits[0-1]", "digits[2-3]", "class-incremental")


def test_presets_and_pairs_made_of_them_have_their_own_names() -> None:
    changed = find_pair("digits-t2", config={"first": 1})
    own = find_pair("mine_1.b~c", "digits[0-1]", "digits[2-3]", "class-incremental")
    assert own.name == "mine_1.b~c" and changed.name == f"digits-t2~{changed.digest[:8]}"
    for pair in (*PAIRS.values(), find_pair("digits_t2"), changed, own):
        check_name(pair)
        assert [*name_problems(pair)] == []


@pytest.mark.parametrize("says", [True, False], ids=["this version", "an earlier version"])
def test_a_study_under_the_name_of_a_preset_is_found(copy: Callable[[], Path], says: bool) -> None:
    """Presets of earlier versions had other digests under the same names."""
    study = copy()
    lines = [json.loads(line) for line in (study / "ledger.jsonl").read_text().splitlines()]
    plan = StudyPlan.model_validate(lines[0]["body"]["plan"])
    pair = plan.pair.model_copy(update=EASY)
    body = lines[0]["body"]
    plan = plan.model_copy(update={"pair": pair, "pair_hash": pair.digest})
    plan = plan if says else plan.model_copy(update={"by_hand": None})
    body |= {"plan": plan.model_dump(mode="json"), "plan_hash": plan.digest}
    prev, text = START, b""
    for number, line in enumerate(lines):
        entry = LedgerEntry.of(number, prev, line["kind"], line["time"], line["body"])
        prev, text = entry.hash, text + canonical_json(vars(entry)) + b"\n"
    (study / "ledger.jsonl").write_bytes(text)
    wanted = f"'digits-t2' has the sides and options of digits-t2~{pair.digest[:8]}"
    assert any(wanted in problem for problem in verify(study).problems) == says


def test_a_preset_with_a_side_from_a_file_is_named_by_what_the_file_holds(
    tmp_path: Path, plugin: Path
) -> None:
    """Its name does not depend on the path, and verification knows it, also without the file."""
    digits, file = load_source("digits").train, tmp_path / "images.npz"
    names = np.array([f"class {number}" for number in range(10)])
    np.savez(file, images=digits.images[:500], labels=digits.labels[:500], classes=names)
    out = tmp_path / "study"
    pair = find_pair("digits-t2", tuning=f"npz:{file}[0-4]", evaluation="digits[5-9]")
    where = ExecutionOptions(out, PoolSpec("inline"), plugins=(plugin,))
    plan = tune(StudySpec("power", pair, trials=1, seeds=(0,)), where).body.plan
    assert plan.pair.name == f"digits-t2~{plan.pair.digest[:8]}"
    assert verify(out).problems == []
    plan = plan.model_copy(update={"pair": plan.pair.model_copy(update={"name": "digits-t2"})})
    assert [*name_problems(plan.pair)] != []
