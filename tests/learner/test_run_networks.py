"""Networks that finished runs offer, and runs that offer none."""

from pathlib import Path
from typing import Any

import pytest
import torch

from clgym.errors import Incompatible
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.learner.run_networks import RunNetworks
from clgym.learner.trained import Trained


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folders of short runs, made when they are first asked for."""
    out = tmp_path_factory.mktemp("runs")

    def of(name: str, scenario: str = "split-digits", **config: object) -> Path:
        folder = out / f"{name}-{scenario}"
        if not folder.exists():
            request = Request(
                name, scenario, strategy_config=config, out=folder, threads=1, engine="inline"
            )
            run(request)
        return folder

    return of


def test_a_run_that_trains_one_network_is_a_classifier(finished: Any) -> None:
    network, classes = RunNetworks().classifier(finished("naive"))
    assert [*classes] == [f"digits/{c}" for c in range(10)]
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_a_run_without_a_network_is_none(finished: Any) -> None:
    with pytest.raises(Incompatible, match="trains one network; found NMC"):
        RunNetworks().classifier(finished("nmc"))


def test_a_run_that_tells_classes_within_a_task_only_is_none(finished: Any) -> None:
    folder = finished("naive", "task-digits", heads="per-task")
    with pytest.raises(Incompatible, match="distinguishes all classes"):
        RunNetworks().classifier(folder)


def test_notebooks_show_strategy_and_stream(finished: Any) -> None:
    shown = Trained.load(finished("nmc"), "cpu")._repr_html_()
    assert "nmc" in shown and "split-digits" in shown
