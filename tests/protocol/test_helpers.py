"""A method is more than one file: what its code imports and opens belongs to its identity."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from clgym.errors import BadOutput, BadPlan, Tampered
from clgym.files import sha256
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.learner import provenance
from clgym.protocol.evaluation import evaluate
from clgym.protocol.pairs import find_pair
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import StudySpec, read_certificate, tune
from clgym.protocol.verify import verify
from clgym.registry import PluginEntry
from clgym.results.record import Record
from factories import copy_plugin


def leaning_in(folder: Path) -> Path:
    """A plugin with a helper module and a table beside it."""
    plugin = copy_plugin("leaning", folder)
    (folder / "leaning_helper.py").write_text("SWAY = 0\n")
    (folder / "table.txt").write_text("0")
    return plugin


@pytest.fixture
def leaning(tmp_path: Path) -> Path:
    """That plugin, in a folder of its own."""
    return leaning_in(tmp_path / "plugin")


def played(plugin: Path, out: Path, seed: int = 0, sandbox: Any = "auto") -> Record:
    request = Request(
        "leaning", "split-digits", seed=seed, out=out, plugins=(plugin,), sandbox=sandbox
    )
    return run(request)


def tuned(plugin: Path, out: Path, mode: str = "default") -> None:
    space = out.parent / "space.json"
    space.write_text('{"batch_size": [64, 128]}')
    pair = find_pair("digits-t2")
    asked = StudySpec("leaning", pair, trials=2, seeds=(0,), mode=mode, space=str(space))
    tune(asked, ExecutionOptions(out, plugins=(plugin,)))


@pytest.fixture(scope="module")
def _tuned_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLGYM_WITHHELD", "[]")
        tuned(leaning_in(folder / "plugin"), folder / "study", "transfer")
    return folder


@pytest.fixture
def studied(_tuned_once: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of the plugin and of a sealed study of it."""
    folder = shutil.copytree(_tuned_once, tmp_path / "copy")
    return folder / "plugin" / "leaning.py", folder / "study"


def hashed(*files: Path) -> dict[str, str]:
    return {file.name: sha256(file.read_bytes()) for file in files}


def test_a_record_names_what_was_imported_and_opened(leaning: Path, tmp_path: Path) -> None:
    record = played(leaning, tmp_path / "run")
    wanted = hashed(leaning.with_name("leaning_helper.py"), leaning.with_name("table.txt"))
    assert record.environment.read_files == wanted
    assert str(tmp_path) not in json.dumps(record.model_dump(mode="json"))


def test_a_strategy_that_reads_nothing_names_nothing(tmp_path: Path) -> None:
    record = run(Request("nmc", "split-digits", out=tmp_path / "run"))
    assert record.environment.read_files == {}


def test_a_log_of_its_own_is_nothing_that_a_strategy_read(leaning: Path, tmp_path: Path) -> None:
    """Appended to from experience to experience, and a note that it writes and reads back."""
    text = leaning.read_text().replace(
        "        scores = super()",
        """        with Path(__file__).with_name("log").open("a") as log:
            log.write("predicted")
        note = Path(__file__).with_name("note")
        note.write_text(str(len(Path(log.name).name)))
        note.read_text()
        scores = super()""",
    )
    leaning.write_text(text)
    wanted = hashed(leaning.with_name("leaning_helper.py"), leaning.with_name("table.txt"))
    for out in ("one", "two"):
        record = played(leaning, tmp_path / out, sandbox="none")  # it writes beside its file
        assert record.environment.read_files == wanted
    assert leaning.with_name("log").read_text().count("predicted") > 1


def test_a_variable_of_the_environment_does_not_reach_a_strategy(
    leaning: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = played(leaning, tmp_path / "one").result
    monkeypatch.setenv("SWAY", "1")
    after = played(leaning, tmp_path / "two").result
    assert after.last_accuracy == before.last_accuracy > 0.8


def test_a_module_of_the_working_folder_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another folder would be another method under one hash."""
    from clgym.errors import BadPlugin

    plugin = copy_plugin("plain", tmp_path)
    (tmp_path / "leaning_here.py").write_text("SWAY = 0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadPlugin, match="leaning_here"):
        run(Request("plain", "split-digits", out=tmp_path / "run", plugins=(plugin,)))


def test_a_run_whose_helper_changed_is_another_run(leaning: Path, tmp_path: Path) -> None:
    played(leaning, tmp_path / "run")
    leaning.with_name("leaning_helper.py").write_text("SWAY = 1\n")
    with pytest.raises(BadOutput, match="other options, code or data"):
        played(leaning, tmp_path / "run")


@pytest.mark.parametrize(("name", "text"), [("leaning_helper.py", "SWAY = 1\n")])
def test_a_study_whose_helper_changed_is_another_study(
    leaning: Path, tmp_path: Path, name: str, text: str
) -> None:
    out = tmp_path / "study"
    tuned(leaning, out)
    assert read_certificate(out).body.plan.helpers == hashed(leaning.with_name(name))
    leaning.with_name(name).write_text(text)
    with pytest.raises(BadPlan, match="different helpers"):
        tuned(leaning, out)
    with pytest.raises(Tampered, match=f"different content .{name}."):
        evaluate(out, plugins=(leaning,))


def test_a_table_that_changed_after_tuning_is_refused(studied: tuple[Path, Path]) -> None:
    """What is opened as late as in `predict` is known from the tuning runs."""
    leaning, out = studied
    table = leaning.with_name("table.txt")
    assert read_certificate(out).body.read_files == hashed(
        leaning.with_name("leaning_helper.py"), table
    )
    table.write_text("1")
    with pytest.raises(Tampered, match="different table.txt"):
        evaluate(out, plugins=(leaning,))
    assert "evaluated" not in (out / "ledger.jsonl").read_text()


@pytest.mark.slow
def test_a_file_that_only_the_evaluation_read_is_flagged(leaning: Path, tmp_path: Path) -> None:
    out, table = tmp_path / "study", leaning.with_name("table.txt")
    table.unlink()
    tuned(leaning, out, "transfer")
    table.write_text("0")
    result = evaluate(out, plugins=(leaning,))
    assert "read table.txt, which tuning did not" in result.flags
    assert verify(out).problems == []
    path = next(out.glob("evaluations/1/seed-*/record.json"))
    content = json.loads(path.read_text())
    content["environment"]["read_files"]["leaning_helper.py"] = "0" * 64
    path.write_text(json.dumps(content))
    problems = verify(out).problems
    assert any("environment.read_files[leaning_helper.py] is not the plan's" in p for p in problems)
    content["environment"]["read_files"] = {}
    path.write_text(json.dumps(content))
    assert any("flags does not follow" in problem for problem in verify(out).problems)


def test_a_study_goes_on_with_the_files_it_began_with(studied: tuple[Path, Path]) -> None:
    leaning, out = studied
    table = leaning.with_name("table.txt")
    lines = (out / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if b'"kind":"run"' in line)
    (out / "ledger.jsonl").write_bytes(b"".join(lines[: first + 1]))  # as after a kill
    shutil.rmtree(out / "runs/trial-001")
    table.write_text("1")
    with pytest.raises(Tampered, match="different table.txt"):
        tuned(leaning, out, "transfer")


def test_a_distribution_is_hashed_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a plugin that is installed all modules count, whatever of them was imported."""
    root = tmp_path / "site"
    (root / "theirs").mkdir(parents=True)
    for name in ("__init__.py", "method.py", "helper.py"):
        (root / "theirs" / name).write_text(f"# {name}\n")
    info = root / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: theirs\nVersion: 1.0\n")
    listed = ["theirs/__init__.py", "theirs/method.py", "theirs/helper.py"]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in listed))
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.setattr(provenance, "library_roots", lambda: (f"{root}{os.sep}",))
    provenance.is_library.cache_clear()
    entry = PluginEntry(
        "method", "strategies", "theirs", root / "theirs/method.py", "theirs.method"
    )
    wanted = {f"theirs: {name}": sha256((root / name).read_bytes()) for name in listed}
    assert provenance.files_of(entry) == wanted
    provenance.is_library.cache_clear()
