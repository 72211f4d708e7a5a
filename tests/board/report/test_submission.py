"""`clgym submit --check`: what it accepts, what it flags, what it refuses."""

import json
import shlex
import shutil

import pytest

from clgym import registry
from clgym.board.submission import check
from clgym.errors import BadRecord
from clgym.files import canonical_json, sha256
from clgym.results.stored import open_run


def verdicts(*folders) -> dict[str, str]:
    """The worst verdict of each check."""
    worst: dict[str, str] = {}
    for finding in check(folders).findings:
        order = ("ok", "flag", "wrong")
        worst[finding.check] = max(worst.get(finding.check, "ok"), finding.verdict, key=order.index)
    return worst


def words_of(folder, name: str) -> str:
    return " ".join(f.words for f in check([folder]).findings if f.check == name)


@pytest.fixture
def sent(runs):
    """Two seeds of `nmc`, without what need not be sent."""
    for name in ("state.safetensors", "run.json"):
        for file in runs.rglob(name):
            file.unlink()
    return runs / "nmc"


def test_a_valid_submission_passes_every_check(sent, cli):
    assert verdicts(sent) == {
        "record": "ok",
        "numbers": "ok",
        "strategy": "ok",
        "images": "ok",
        "seeds": "ok",
        "shown on the board": "flag",
    }
    inline = "tests were answered in the learner's process"
    assert words_of(sent, "shown on the board") == f"{inline} {inline}"
    code, out, err = cli("submit", "--check", sent)
    assert (code, err) == (0, "")
    assert "all agree with the predictions" in out
    assert out.count("clgym run nmc split-digits ") == 2


def _last(record):
    record["result"]["last_accuracy"] += 0.01


def _matrix(record):
    record["result"]["accuracy_matrix"][1][0] = 1.0


def _order(record):
    record["result"]["class_order"].reverse()


def _counts(record):
    record["result"]["test_counts"][0] += 1


def _years(record):
    record["cost"]["wall_seconds"] = 1e12


def _endless(record):
    record["cost"]["wall_seconds"] = float("inf")


def _negative(record):
    record["result"]["parameters"] = -1


@pytest.mark.parametrize("change", [_last, _matrix, _order, _counts, _years, _endless, _negative])
def test_an_edited_number_is_refused(sent, edit, cli, change):
    edit(sent / "seed-1", change)
    code, _, err = cli("submit", "--check", sent)
    assert code == 2
    assert err.startswith("error: the submission is not accepted: expected ")
    assert err.count("\n") == 1
    assert "seed-1" in err
    assert verdicts(sent / "seed-0")["numbers"] == "ok"


@pytest.mark.parametrize(
    ("damage", "name", "part"),
    [
        (lambda f: (f / "predictions.safetensors").unlink(), "predictions", "missing"),
        (lambda f: (f / "predictions.safetensors").write_bytes(b"x"), "numbers", "does not hash"),
        (lambda f: (f / "record.json").write_text("{"), "record", "as it was written"),
        (lambda f: (f / "record.json").write_text("{}"), "record", "Field required"),
    ],
)
def test_damaged_files_are_refused(sent, damage, name, part):
    damage(sent / "seed-0")
    assert verdicts(sent)[name] == "wrong"
    assert part in words_of(sent, name)


def test_two_runs_of_one_seed_are_refused(sent):
    shutil.copytree(sent / "seed-0", sent / "copy")
    assert verdicts(sent)["seeds"] == "wrong"


def test_submission_warnings_are_listed(sent, edit):
    for folder in (sent / "seed-0", sent / "seed-1"):
        edit(folder, lambda r: r["result"]["strategy"].update(source_hash="0" * 64))
        edit(folder, lambda r: r["environment"].update(clgym="0.0.1", engine="inline"))
    (sent / "seed-0/weights.bin").write_bytes(b"large")
    shutil.rmtree(sent / "seed-1")
    assert verdicts(sent) == {
        "record": "ok",
        "numbers": "ok",
        "images": "ok",
        "strategy": "flag",
        "version": "flag",
        "shown on the board": "flag",
        "files": "flag",
        "seeds": "flag",
    }
    assert "weights.bin" in words_of(sent, "files")
    assert "labels" not in words_of(sent, "strategy")
    assert "made with the random draws of clgym 0.0.1" in words_of(sent, "version")


def test_a_plugin_comes_with_its_file_and_is_never_imported(runs, plugin):
    folder = runs / "means"
    assert verdicts(folder)["strategy"] == "flag"
    (folder / "other.py").write_text("raise SystemExit('imported')\n")
    assert verdicts(folder)["strategy"] == "wrong"
    shutil.copy(plugin, folder / "mine.py")
    submission = check([folder])
    assert verdicts(folder)["strategy"] == "ok"
    assert submission.found[0].plugins == (folder / "mine.py",)


def test_a_wrapper_is_known_by_all_its_files(sent, edit):
    hashes = [registry.find("strategies", n).source_hash for n in ("refresh", "derpp")]

    def wrap(record):
        config = {"base": "derpp", "gamma": 0.1, "note": "refresh"}
        record["result"]["strategy"] = {
            "name": "refresh",
            "source_hash": sha256(canonical_json(hashes)),
            "config": config,
        }

    edit(sent / "seed-0", wrap)
    assert verdicts(sent / "seed-0")["strategy"] == "ok"
    hashes[1] = "0" * 64
    edit(sent / "seed-0", wrap)
    assert verdicts(sent / "seed-0")["strategy"] == "flag"


def test_a_folder_without_records_cannot_be_submitted(tmp_path, cli):
    with pytest.raises(BadRecord, match=r"records or a study's files .* found none"):
        check([tmp_path])
    code, out, err = cli("submit", "--check", tmp_path / "absent")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "no such folder" in err


def test_a_record_cannot_write_to_the_terminal(sent, edit, cli):
    name = "[red]\x1b[2J\x1b]0;owned\x07$(touch /tmp/owned)"
    edit(sent / "seed-0", lambda r: r["result"]["strategy"].update(name=name))
    _, out, err = cli("submit", "--check", sent / "seed-0")
    assert not {"\x1b", "\x07"} & {*out, *err}
    assert "[red]" in out


def test_values_of_options_are_quoted_for_the_shell(sent, edit, cli):
    value = "a b; $(reboot) 'c'"
    edit(sent / "seed-0", lambda r: r["result"]["strategy"]["config"].update(backbone=value))
    _, out, _ = cli("submit", "--check", sent / "seed-0", "--json")
    (line,) = json.loads(out)["again"]
    words = shlex.split(line)
    assert words[words.index("--backbone") + 1] == value


def test_a_command_says_that_an_earlier_release_drew_otherwise(sent, edit, cli):
    edit(sent / "seed-0", lambda r: r["environment"].update(clgym="0.1.0"))
    _, out, _ = cli("submit", "--check", sent / "seed-0", "--json")
    (line,) = json.loads(out)["again"]
    command, _, reason = line.partition("  # ")
    assert shlex.split(line, comments=True) == shlex.split(command)
    assert reason.startswith("made with the random draws of clgym 0.1.0, which clgym ")


@pytest.mark.slow
def test_the_command_repeats_the_run(runs, plugin, cli, tmp_path):
    shutil.copy(plugin, runs / "means/means.py")
    _, out, _ = cli("submit", "--check", runs / "means", "--json")
    (line,) = json.loads(out)["again"]
    words = shlex.split(line)
    assert words[:4] == ["clgym", "run", "means", "split-digits"]
    assert cli(*words[1:], "--engine", "inline", "--out", tmp_path / "again")[0] == 0
    assert open_run(tmp_path / "again").result == open_run(runs / "means").result


@pytest.mark.slow
def test_a_valid_study_passes_every_check(study, plugin, cli):
    shutil.copy(plugin, study / "means.py")
    code, out, _ = cli("submit", "--check", study, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["again"] == [
        shlex.join(["clgym", "verify", str(study), "--rerun", "--plugin", f"{study}/means.py"])
    ]
    assert {f["check"]: f["verdict"] for f in found["findings"][:4]} == {
        "study": "ok",
        "audit": "ok",
        "strategy": "ok",
        "evaluations": "ok",
    }


def _ledger(study):
    file = study / "ledger.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"status":"done"', b'"status":"fine"', 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (_ledger, "study"),
        (lambda s: (s / "certificate.json").unlink(), "study"),
        (lambda s: shutil.rmtree(s / "evaluations"), "evaluations"),
        (lambda s: shutil.rmtree(s / "runs"), "audit"),
        (lambda s: (s / "certificate.json").write_text("{}"), "study"),
    ],
)
def test_a_study_that_fails_its_audit_cannot_be_submitted(study, damage, name):
    damage(study)
    assert verdicts(study)[name] == "wrong"


def test_two_class_orders_of_one_seed_are_accepted(sent, edit):
    edit(sent / "seed-1", lambda r: r["result"].update(seed=0))
    found = [f for f in check([sent]).findings if f.check == "seeds"]
    assert [f.verdict for f in found] == ["ok"]
    assert "0 (order 0), 0 (order 1)" in found[0].words
