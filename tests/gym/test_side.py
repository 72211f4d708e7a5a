"""The gym's side of a run, in a process of its own: what it has loaded when the run is over."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

LOOK = """
import json, sys
from pathlib import Path
from clgym.gym.request import Request
from clgym.gym.run import run

strategy, scenario, options, config, out = json.loads(sys.argv[1])
run(Request(strategy, scenario, scenario_config=options, strategy_config=config, out=Path(out)))
print(json.dumps(sorted(sys.modules)))
"""
SHORT = {"corruptions": "contrast", "images": 64}
BOTH = {**SHORT, "increments": [5]}


@pytest.mark.parametrize(
    ("strategy", "scenario", "options"),
    [
        ("nmc", "split-digits", {}),
        pytest.param("avalanche:EWC", "split-digits", {"increments": [5]}, marks=pytest.mark.slow),
        pytest.param("source", "digits-c", SHORT, marks=pytest.mark.slow),
        pytest.param("learn-then-adapt", "learn-then-shift-digits", BOTH, marks=pytest.mark.slow),
    ],
)
def test_the_gym_loads_no_torch_and_no_strategy(
    tmp_path: Path, strategy: str, scenario: str, options: dict[str, object]
) -> None:
    asked = json.dumps([strategy, scenario, options, {}, str(tmp_path / "run")])
    done = subprocess.run([sys.executable, "-c", LOOK, asked], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert (tmp_path / "run" / "record.json").is_file()
    assert "clgym.gym.run" in modules
    other_side = ("torch.", "clgym.learner", "clgym.strategies.", "clgym.avalanche", "avalanche.")
    assert [m for m in sorted(modules) if m.startswith(other_side)] == []
