"""`clgym check` on files: however the path is written, and what to do about missing weights."""

from pathlib import Path

import pytest

from clgym.cli import main
from factories import copy_plugin


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the present folder whose default backbone is on no machine of these tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLGYM_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    return copy_plugin("probe", tmp_path)


@pytest.mark.parametrize(
    "name", ["probe.py", "./probe.py", ".//probe.py", "./probe.py:Probe", "{folder}/./probe.py"]
)
def test_a_file_is_found_however_its_path_is_written(probe: Path, capsys, name: str) -> None:
    name = name.replace("{folder}", str(probe.parent))
    assert main(["check", name, "--only", "described"]) == 0
    assert "probe (probe.py)" in capsys.readouterr().out


def test_a_missing_default_backbone_names_what_to_write(probe: Path, capsys) -> None:
    assert main(["check", "./probe.py", "--only", "unseen-classes"]) == 1
    told = capsys.readouterr().out
    assert "vit_base_patch16_224.augreg_in21k on this machine" in told
    config = {"backbone": "test_resnet@random", "image_size": 32}
    assert f"to do: Write CHECK_CONFIG = {config} into the class" in told
    copy_plugin("probe", probe.parent / "small", CONFIG=config)
    assert main(["check", "./small/probe.py", "--only", "unseen-classes"]) == 0
