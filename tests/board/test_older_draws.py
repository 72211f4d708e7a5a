"""The list of committed runs that were made with other draws is the one that its script writes."""

import runpy
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "leaderboards"


def test_the_list_of_runs_to_be_made_anew_is_up_to_date() -> None:
    page = runpy.run_path(str(FOLDER / "older_draws.py"))["page"]()
    assert f"{page}\n" == (FOLDER / "older-draws.md").read_text(encoding="utf-8")
