"""Plugins that attack, and what a run says of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clgym.errors import ClgymError
from clgym.gym.request import Request
from clgym.gym.run import run

PLUGIN = '''"""Attacks when it is set up, and says how that went by the error that it ends with."""
import ctypes, glob, os, signal, socket, sys
from pathlib import Path
from clgym.strategies.nmc import NMC


def attack():
BODY


class Attacker(NMC):
    def setup(self, info):
        super().setup(info)
        try:
            found = attack()
        except BaseException as error:
            raise RuntimeError(f"REFUSED {type(error).__name__} {error}") from None
        raise RuntimeError(f"GOT {found}")
'''


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of state of the test's own."""
    folder = tmp_path / "state"
    monkeypatch.setenv("CLGYM_STATE", str(folder))
    return folder


@pytest.fixture
def outcome(tmp_path: Path) -> Callable[..., str]:
    """Runs a plugin whose `attack` has this body; ``GOT ...`` or ``REFUSED ...``."""

    def of(body: str, **options: Any) -> str:
        plugin = tmp_path / "plugin" / "attacker.py"
        plugin.parent.mkdir(exist_ok=True)
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        plugin.write_text(PLUGIN.replace("BODY", lines))
        request = Request(
            "attacker", "split-digits", out=tmp_path / "run", threads=1, plugins=(plugin,)
        )
        with pytest.raises(ClgymError) as caught:
            run(replace(request, **options))
        found = caught.value.found.removeprefix("RuntimeError: ")
        assert found.startswith(("GOT", "REFUSED")), found
        return found

    return of
