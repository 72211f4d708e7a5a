"""Plugins that attack, and what a run says of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clgym.data.sources import load_source
from clgym.errors import ClgymError
from clgym.gym.request import Request
from clgym.gym.run import run
from factories import copy_plugin


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of state of the test's own."""
    folder = tmp_path / "state"
    monkeypatch.setenv("CLGYM_STATE", str(folder))
    return folder


@pytest.fixture
def outcome(tmp_path: Path) -> Callable[..., str]:
    """Runs a plugin that looks at something of its process; ``GOT ...`` or ``REFUSED ...``."""

    def of(look: str, testing: bool = False, **options: Any) -> str:
        facts = {"LOOK": look, "TESTING": testing}
        source = load_source("digits")
        facts |= {"TRAIN": source.train.path, "TEST": source.test.path}
        plugin = copy_plugin("attacker", tmp_path / "plugin", **facts)
        out = tmp_path / f"{look}-{testing}"
        request = Request("attacker", "split-digits", out=out, threads=1, plugins=(plugin,))
        with pytest.raises(ClgymError) as caught:
            run(replace(request, **options))
        found = caught.value.found.removeprefix("RuntimeError: ")
        assert found.startswith(("GOT", "REFUSED")), found
        return found

    return of
