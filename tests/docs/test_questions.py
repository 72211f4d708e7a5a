"""The errors on the page of questions are printed as they stand there."""

import re
from pathlib import Path

import pytest

from clgym.cli import main

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "questions.md").read_text()
ERRORS = re.findall(r"```text\n\$ clgym (.*?)\n(.*?)\n```", PAGE, re.DOTALL)


def test_the_page_quotes_errors() -> None:
    assert len(ERRORS) >= 5


@pytest.mark.slow
@pytest.mark.parametrize(("command", "message"), ERRORS)
def test_an_error_is_printed_word_for_word(
    command: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2
    assert capsys.readouterr().err.strip() == message
