"""What a plugin's file leads to is told from its text, before anything heavy is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from clgym import registry
from clgym.registry.libraries import LIBRARIES, libraries_of

COMPILER, AVALANCHE = 0, 1


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.py"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from clgym.avalanche import SGDStrategy", {COMPILER, AVALANCHE}),
        ("import avalanche.training", {COMPILER, AVALANCHE}),
        ("from clgym.strategies.derpp import DERpp", {COMPILER, AVALANCHE}),
        ("from clgym.strategy import Strategy", set()),
        ("from clgym.models.heads import cosine_logits", set()),
        ("def late():\n    import avalanche", set()),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import avalanche", set()),
        ("this is no Python", set()),
    ],
)
def test_imports_at_the_top_of_a_file_count(tmp_path: Path, text: str, found: set[int]) -> None:
    assert libraries_of(written(tmp_path, text)) == found


def test_a_file_that_is_not_there_leads_to_nothing(tmp_path: Path) -> None:
    assert libraries_of(tmp_path / "absent.py") == set()


def test_the_numbers_are_those_of_the_modules() -> None:
    assert LIBRARIES[COMPILER] == "torch._dynamo"
    assert LIBRARIES[AVALANCHE].startswith("clgym.avalanche")


def test_telling_imports_nothing_heavy() -> None:
    paths = [str(entry.path) for entry in registry.entries("strategies").values()]
    code = f"""
import sys
from pathlib import Path
from clgym.registry.libraries import libraries_of
print(sum(bool(libraries_of(Path(p))) for p in {paths!r}))
print(*{{"torch", "avalanche", "timm"}} & set(sys.modules), "-")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    count, heavy = done.stdout.splitlines()
    assert int(count) > 20  # the strategies on Avalanche's loop
    assert heavy == "-"


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file = written(tmp_path, '"""First."""')
    first = registry.find("strategies", "mine", [file])
    file.write_text('"""Second one."""')
    second = registry.find("strategies", "mine", [file])
    assert (first.summary, second.summary) == ("First.", "Second one.")
