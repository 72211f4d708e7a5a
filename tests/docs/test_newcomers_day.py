"""The newcomer's day leaves what it promises: records, a LaTeX table, a figure, a report."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "newcomers-day.md"


@pytest.mark.slow
def test_the_day_ends_with_a_table_and_a_figure(tmp_path: Path) -> None:
    """Every bash block runs as it stands; `test_blocks.py` runs the Python block, too."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    tools = tmp_path / "bin"
    tools.mkdir()
    command = tools / "clgym"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m clgym "$@"\n')
    command.chmod(0o755)
    done = subprocess.run(
        ["bash", "-e", "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "day").glob("*/seed-*/record.json"))) == 9
    assert len(list((tmp_path / "day-file").glob("*/seed-*/record.json"))) == 6
    table = (tmp_path / "table.tex").read_text()
    assert r"\toprule" in table and table.count(r"\\") == 4  # one line of titles, three methods
    for name in ("anytime", "ranks"):
        assert (tmp_path / f"figures/{name}.pdf").read_bytes().startswith(b"%PDF")
    assert "<html" in (tmp_path / "replay.html").read_text()
    assert "Friedman" in done.stdout and "all hold" in done.stdout
