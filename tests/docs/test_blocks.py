"""Every python and bash block of the docs runs, page by page, each page in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = ["first-run", "strategy", "scenario", "data"]
_BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_runs(page: str, tmp_path: Path) -> None:
    blocks = _BLOCK.findall((ROOT / "docs" / f"{page}.md").read_text())
    assert blocks
    tools = tmp_path / "bin"
    tools.mkdir()
    command = tools / "clgym"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m clgym "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    folder = tmp_path / "here"
    folder.mkdir()
    python = ""
    for language, text in blocks:
        if language == "bash":
            words = ["bash", "-e", "-c", text]
        else:
            python += text  # blocks of a page share their variables
            words = [sys.executable, "-c", python]
            python = python if "import" in text else python
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
