"""Records of every schema are read, and say what they said."""

import copy
import hashlib
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from clgym.errors import BadRecord
from clgym.results.record import (
    AdaptationResult,
    LearningResult,
    TwoPhaseResult,
    make_result,
    result_hash,
)
from clgym.results.stored import open_run
from clgym.text import first_unprintable, printable_tree

SAMPLES = Path(__file__).with_name("samples")
KINDS = {
    "v1-nmc": LearningResult,
    "v1-source": AdaptationResult,
    "v1-learn-then-adapt": TwoPhaseResult,
}


def raw(sample: str) -> dict[str, Any]:
    return json.loads((SAMPLES / sample / "record.json").read_text())


@pytest.mark.parametrize("sample", sorted(KINDS))
def test_schema_1_is_read_into_the_kind_that_it_is(sample: str) -> None:
    record = open_run(SAMPLES / sample).record
    assert type(record.result) is KINDS[sample]
    said = raw(sample)["result"]
    for name in ("accuracy_matrix", "last_accuracy", "forgetting", "test_counts", "chance"):
        assert getattr(record.result, name) == said[name]
    assert (record.result.adaptation is None) == ("adaptation" not in said)


@pytest.mark.parametrize("sample", sorted(KINDS))
def test_the_hash_of_a_result_is_that_of_schema_1(sample: str) -> None:
    """Ledgers and certificates name results by it; computed here without clgym."""
    said = raw(sample)["result"]
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(unicodedata.normalize("NFC", text).encode()).hexdigest()
    assert result_hash(open_run(SAMPLES / sample).record) == digest


@pytest.mark.parametrize("sample", sorted(KINDS))
def test_what_is_read_can_be_written_and_read_again(sample: str, tmp_path: Path) -> None:
    record = open_run(SAMPLES / sample).record
    (tmp_path / "record.json").write_text(record.model_dump_json())
    again = open_run(tmp_path).record
    assert again == record
    assert json.loads((tmp_path / "record.json").read_text())["schema_version"] == 2


def test_an_adaptation_record_carries_no_matrix() -> None:
    facts = open_run(SAMPLES / "v1-source").record.model_dump(mode="json")["result"]
    assert "accuracy_matrix" not in facts and "chance" not in facts
    with pytest.raises(ValueError, match="accuracy_matrix"):
        make_result({**facts, "accuracy_matrix": [[1.0]]})


@pytest.mark.parametrize(
    ("sample", "change", "words"),
    [
        ("v1-source", {"last_accuracy": 0.9}, "last_accuracy does not follow"),
        ("v1-source", {"accuracy_matrix": [[0.9]]}, "accuracy_matrix does not follow"),
        ("v1-nmc", {"kind": "learning"}, "should be 2"),
        ("v1-nmc", {"accuracy_matrix": [[0.9]]}, "another length"),
        ("v1-nmc", {"invented": 1}, "Extra inputs"),
    ],
)
def test_a_contradiction_in_schema_1_is_named(
    tmp_path: Path, sample: str, change: dict[str, Any], words: str
) -> None:
    record = copy.deepcopy(raw(sample))
    record["result"].update(change)
    (tmp_path / "record.json").write_text(json.dumps(record))
    with pytest.raises(BadRecord, match=words):
        open_run(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{}", '{"result": []}', "{" * 9999])
def test_an_invalid_record_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(BadRecord, match="a record at"):
        open_run(tmp_path)


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "a\x00", "\u202etxt.exe", "a" * 300_000])
@pytest.mark.parametrize("sample", sorted(KINDS))
def test_a_record_whose_names_a_terminal_would_obey_is_refused(
    sample: str, name: str, tmp_path: Path
) -> None:
    facts = raw(sample)
    facts["result"]["strategy"]["name"] = name
    (tmp_path / "record.json").write_text(json.dumps(facts))
    with pytest.raises(BadRecord, match="control characters") as caught:
        open_run(tmp_path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 4000


def test_what_a_run_was_called_is_written_as_a_record_may_hold_it() -> None:
    tree = {"\x1bname": ["\u202ex", 1, None, {"deep": "b" * 300_000}], "plain": "ok\n"}
    shown = printable_tree(tree)
    assert first_unprintable(tree) is not None and first_unprintable(shown) is None
    assert shown["\\u001bname"][:3] == ["\\u202ex", 1, None] and shown["plain"] == "ok\n"
