"""Real runs and a real study, made once; tests copy what they change."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from clgym.engines.pool import PoolSpec
from clgym.files import sha256
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.protocol.evaluation import evaluate
from clgym.protocol.pairs import find_pair
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import StudySpec, tune
from clgym.results.online_errors import scores
from clgym.results.record import AdaptationResult
from factories import copy_plugin


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_plugin("means", tmp_path_factory.mktemp("plugin"))


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory, plugin: Path) -> Path:
    """`nmc` with two class orders, the plugin with one; not to be changed."""
    root = tmp_path_factory.mktemp("made")
    asked = Request("nmc", "split-digits", threads=1, engine="inline")
    for seed in (0, 1):
        run(replace(asked, seed=seed, order_seed=seed, out=root / f"nmc/seed-{seed}"))
    own = {"strategy": "means", "strategy_config": {"power": 2.0}, "plugins": (plugin,)}
    run(replace(asked, **own, order_seed=0, out=root / "means"))
    for file in root.rglob("record.json"):  # one process is faster, and flagged
        file.write_text(file.read_text().replace('"engine": "inline"', '"engine": "process"'))
    return root


@pytest.fixture(scope="session")
def _study(tmp_path_factory: pytest.TempPathFactory, plugin: Path) -> Path:
    out = tmp_path_factory.mktemp("studies") / "study"
    asked = StudySpec("means", find_pair("digits-t2"), trials=2, seeds=(0,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLGYM_WITHHELD", "[]")
        tune(asked, ExecutionOptions(out, PoolSpec("inline"), plugins=(plugin,)))
        patch.setenv("CLGYM_WITHHELD", "[]")  # tuning has closed the other side
        evaluate(out, PoolSpec("inline"), plugins=(plugin,))
    return out


@pytest.fixture
def runs(_made: Path, tmp_path: Path) -> Path:
    """A copy: ``nmc/seed-0``, ``nmc/seed-1`` and ``means``."""
    return Path(shutil.copytree(_made, tmp_path / "runs"))


@pytest.fixture
def study(_study: Path, tmp_path: Path) -> Path:
    """A copy of a sealed and evaluated study of the plugin."""
    return Path(shutil.copytree(_study, tmp_path / "study"))


@pytest.fixture
def edit() -> Callable[[Path, Callable[[dict[str, Any]], None]], None]:
    """Change a record in place."""

    def change(folder: Path, how: Callable[[dict[str, Any]], None]) -> None:
        file = folder / "record.json"
        value = json.loads(file.read_text())
        how(value)
        file.write_text(json.dumps(value))

    return change


@pytest.fixture
def adapting(runs: Path) -> Path:
    """`nmc/seed-0` made into a record of an adaptation stream of two segments."""
    folder = runs / "nmc/seed-0"
    record = json.loads((folder / "record.json").read_text())
    draw = np.random.default_rng(0)
    labels = [draw.integers(0, 10, n) for n in (40, 30)]
    predicted = [np.where(draw.random(len(y)) < 0.4, (y + 1) % 10, y) for y in labels]
    domains = [np.full(len(y), i) for i, y in enumerate(labels)]
    sure = [draw.random(len(y)).astype(np.float32) for y in labels]
    names = ["fog-5", "snow-5"]
    classes = record["result"]["class_order"]
    measured = scores(names, domains, ["fog", "snow"], labels, predicted, sure, classes)
    kept = {}
    for i in range(2):
        kept |= {f"{i}/label": labels[i], f"{i}/predicted": predicted[i]}
        kept |= {f"{i}/confidence": sure[i], f"{i}/domain": domains[i]}
        kept |= {f"{i}/row": np.arange(len(labels[i]))}
    data = save({key: np.ascontiguousarray(value) for key, value in kept.items()})
    (folder / "predictions.safetensors").write_bytes(data)
    shared = AdaptationResult.model_fields.keys() - {"kind"}
    result = {k: v for k, v in record["result"].items() if k in shared}
    record["result"] = result
    result["scenario"].update(setting="adaptation", name="tiny-c")
    result.update(
        kind="adaptation",
        predictions={"file": "predictions.safetensors", "sha256": sha256(data)},
        adaptation={
            **measured,
            "model": {"name": "tiny", "sha256": "0" * 64},
            "predict": "before",
            "batch_size": 10,
            "reset_each_segment": False,
            "forward_per_image": 1.0,
            "backward_per_image": 0.0,
        },
    )
    (folder / "record.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def by_class() -> Callable[[Path], dict[str, tuple[int, float]]]:
    """Images and accuracy of each class after the last experience, counted from the file."""

    def count(folder: Path) -> dict[str, tuple[int, float]]:
        record = json.loads((folder / "record.json").read_text())["result"]
        kept = load_file(folder / "predictions.safetensors")
        last = len(record.get("accuracy_matrix", [[]])) - 1
        label, predicted = kept[f"{last}/label"], kept[f"{last}/predicted"]
        return {
            name: (int((label == c).sum()), float((predicted[label == c] == c).mean()))
            for c, name in enumerate(record["class_order"])
        }

    return count
