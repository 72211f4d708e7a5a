"""Every python and bash block of the docs runs, page by page, each page in an empty folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(path.stem for path in DOCS.glob("*.md") if _BLOCK.search(path.read_text()))
"""Pages with blocks to run; the others explain."""

# One process a page: its python blocks share their variables, and torch is imported once.
_READER = """
import json, subprocess, sys
names = {"__name__": "page"}
for language, text in json.load(sys.stdin):
    if language == "bash":
        subprocess.run(["bash", "-e", "-c", text], check=True)
    else:
        exec(compile(text, "block", "exec"), names)
    print("read:", text, flush=True)
"""


def test_the_pages_for_users_have_blocks() -> None:
    users = {"concepts", "data", "first-run", "protocol", "reproducing", "scenario", "strategy"}
    assert users <= set(PAGES)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_runs(page: str, tmp_path: Path) -> None:
    blocks = _BLOCK.findall((DOCS / f"{page}.md").read_text())
    tools, folder = tmp_path / "bin", tmp_path / "here"
    tools.mkdir()
    folder.mkdir()
    command = tools / "clgym"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m clgym "$@"\n')
    command.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", _READER],
        input=json.dumps(blocks),
        cwd=folder,
        env={**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("text", ["false", "raise SystemExit(3)"])
def test_a_block_that_fails_is_noticed(text: str, tmp_path: Path) -> None:
    language = "bash" if text == "false" else "python"
    blocks = json.dumps([(language, text)])
    reader = [sys.executable, "-c", _READER]
    assert subprocess.run(reader, input=blocks, cwd=tmp_path, text=True).returncode
