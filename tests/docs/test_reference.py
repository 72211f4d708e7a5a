"""The reference that is generated from the code."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "reference", ROOT / ".ci" / "site" / "reference.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_name_can_be_imported_from_where_the_page_says(reference: ModuleType) -> None:
    page = reference.page()
    for home, names in reference.PUBLIC.values():
        for name in names or ():
            assert f"### {name}\n" in page
            assert hasattr(importlib.import_module(home), name), f"{home}.{name}"


def test_the_page_says_what_a_hook_is_for(reference: ModuleType) -> None:
    page = reference.page()
    for hook in ("SGDStrategy.penalty(batch", "AvalancheStrategy.arguments()", "Memory.put(rows"):
        assert hook in page
    assert "* `memory_size`: Number of samples that a replay strategy may keep" in page
