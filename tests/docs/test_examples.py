"""The example plugins of the docs: each runs on small real data and does what it says."""

import ast
import importlib
import importlib.util
import io
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

import clgym
from clgym.check import findings_of
from clgym.data.sources import load_source
from clgym.learner.assembly import make_strategy
from clgym.registry import Kind, find
from clgym.strategy import Experience, Memory
from factories import stream_info

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
STRATEGIES = {
    "my_ranpac": ("split-digits", {"image_size": 32, "backbone": "test_resnet@random"}, 0.50),
    "my_er_ace": ("split-digits", {"lr": 0.1, "epochs": 3, "batch_size": 10}, 0.80),
    "my_lwf": ("task-digits", {"lr": 0.1, "epochs": 3}, 0.80),
    "my_template": ("split-digits", {"lr": 0.1, "epochs": 3, "batch_size": 10}, 0.60),
}
"""Scenario, options and least last accuracy of each."""


def path(name: str) -> Path:
    return EXAMPLES / f"{name}.py"


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_learns_digits(name: str, tmp_path: Path) -> None:
    scenario, config, least = STRATEGIES[name]
    record = clgym.run(
        str(path(name)), scenario, config=config, engine="inline", threads=1, out=tmp_path / "run"
    )
    assert record.result.last_accuracy > least
    assert record.result.stored_samples == (
        100 if "memory_size" in record.result.strategy.config else 0
    )


def test_the_bank_stays_within_its_size_and_is_recorded(tmp_path: Path) -> None:
    record = clgym.run(
        str(path("my_rotta")),
        "digits-c",
        config={"memory_size": 20},
        scenario_config={"corruptions": "contrast,gaussian-noise"},
        engine="inline",
        threads=1,
        out=tmp_path / "run",
    )
    assert record.result.stored_samples == 20


def test_the_loss_of_er_ace_is_the_papers() -> None:
    """Two means: new samples over their own classes, replayed ones over all."""
    strategy = make_strategy("my-er-ace", {}, [str(path("my_er_ace"))])
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([3, 4, 3, 4, 0, 1, 4])

    class Joined:
        new = range(4)

    type(strategy).batch = Joined()  # type: ignore[attr-defined]
    own = cross_entropy(logits[:4, 3:], labels[:4] - 3)
    wanted = own + cross_entropy(logits[4:], labels[4:])
    torch.testing.assert_close(strategy.loss(logits, labels), wanted)  # type: ignore[attr-defined]


def test_ranpac_is_the_ridge_solution_over_all_images() -> None:
    """In one piece by NumPy's least squares, with the rows of the ridge appended."""
    strategy: Any = make_strategy(
        "my-ranpac",
        {"units": 30, "ridge": 2.0, "backbone": "none@random"},
        [str(path("my_ranpac"))],
    )
    images = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 4
    strategy.features = lambda batch: batch.images.flatten(1)
    strategy.setup(stream_info((1, 4, 4), memory=Memory(0)))
    for index in range(2):
        rows = (labels // 2) == index
        strategy.train(
            Experience(
                index, images[rows], labels[rows],
                classes=(2 * index, 2 * index + 1), columns=2 * index + 2, seed=0, scale=1.0,
            )
        )  # fmt: skip
    h = (images.flatten(1) @ strategy.projection).relu().numpy().astype(float)
    rows = np.vstack([h, np.sqrt(2.0) * np.eye(30)])
    targets = np.vstack([np.eye(4)[labels.numpy()], np.zeros((30, 4))])
    wanted = h @ np.linalg.lstsq(rows, targets, rcond=None)[0]
    from clgym.strategy import Batch

    np.testing.assert_allclose(strategy.predict(Batch(images)).numpy(), wanted, atol=1e-3)


def test_class_sizes_fall_by_zipfs_law() -> None:
    stream = clgym.make_scenario(str(path("my_zipf")), source="digits", exponent=1.0, order_seed=2)
    source = load_source("digits")
    columns = np.array(stream.columns[0])
    rows = np.concatenate([step.train for step in stream.steps])
    kept = np.bincount(columns[source.train.labels[rows]], minlength=10)
    all_of = np.bincount(columns[source.train.labels], minlength=10)
    assert kept.tolist() == [round(n / (rank + 1)) for rank, n in enumerate(all_of.tolist())]


def test_rotations_come_again_with_other_images() -> None:
    stream = clgym.make_scenario(
        str(path("my_recurring")), source="digits", angles=[0, 90], rounds=3
    )
    angles = [0.0 if s.transform is None else s.transform.amount for s in stream.steps]
    assert angles == [0.0, 90.0] * 3
    for angle in (0, 1):
        rows = np.concatenate([step.train for step in stream.steps[angle::2]])
        assert len(np.unique(rows)) == len(rows) == len(load_source("digits").train.labels)
    record = clgym.run("nmc", str(path("my_recurring")), source="digits", engine="inline")
    assert [len(row) for row in record.result.accuracy_matrix] == [6] * 6


def png(draw: np.random.RandomState) -> bytes:
    data = io.BytesIO()
    Image.fromarray(draw.randint(0, 256, (8, 8, 3)).astype(np.uint8)).save(data, "png")
    return data.getvalue()


def write_parquet(
    tables: dict[Path, dict[str, list[Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write tables; without pyarrow a stand-in reads what such files would hold."""
    if importlib.util.find_spec("pyarrow") is not None:
        arrow, parquet = map(importlib.import_module, ("pyarrow", "pyarrow.parquet"))
        for file, table in tables.items():
            parquet.write_table(arrow.table(table), file)
        return
    for file, table in tables.items():
        file.write_bytes(repr(table).encode())

    def read_table(file: Path, columns: list[str]) -> dict[str, Any]:
        return {n: SimpleNamespace(to_pylist=lambda n=n: tables[file][n]) for n in columns}

    stand_in = SimpleNamespace(read_table=read_table)
    monkeypatch.setitem(sys.modules, "pyarrow", SimpleNamespace(parquet=stand_in))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", stand_in)


def test_parquet_files_become_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-parquet").mkdir()
    draw = np.random.RandomState(0)
    write_parquet(
        {
            tmp_path / "my-parquet" / f"{part}.parquet": {
                "image": [{"bytes": png(draw)} for _ in range(count)],
                "label": [i % 3 for i in range(count)],
            }
            for part, count in (("train", 30), ("test", 12))
        },
        monkeypatch,
    )
    monkeypatch.setenv("CLGYM_DATA", str(tmp_path))
    source = load_source("my-parquet", plugins=[path("my_parquet")])
    assert source.train.images.shape == (30, 8, 8, 3) and len(source.test.labels) == 12
    entry = find("sources", "my-parquet", [path("my_parquet")])
    found = list(findings_of("sources", entry, [path("my_parquet")]))
    assert found and [f for f in found if f.status == "failed"] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"),
    [("strategies", n) for n in ("my_ranpac", "my_er_ace", "my_lwf", "my_rotta", "my_template")]
    + [("scenarios", n) for n in ("my_zipf", "my_recurring")],
)
def test_an_example_conforms(kind: Kind, name: str) -> None:
    entry = find(kind, name, [path(name)])
    found = list(findings_of(kind, entry, [path(name)]))
    assert [f for f in found if f.status == "failed"] == []


def test_every_name_that_an_example_imports_is_explained_on_a_page() -> None:
    docs = path("my_lwf").parents[1]
    pages = "\n".join(p.read_text() for p in docs.glob("*.md") if p.name != "examples.md")
    for file in sorted((docs / "examples").glob("*.py")):
        nodes = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.ImportFrom)]
        names = {a.name for n in nodes if (n.module or "").startswith("clgym") for a in n.names}
        assert [n for n in sorted(names) if not re.search(rf"\b{n}\b", pages)] == [], file.name


def test_the_page_counts_lines_that_are_not_empty() -> None:
    docs = path("my_lwf").parents[1]
    page = (docs / "examples.md").read_text()
    for file in sorted((docs / "examples").glob("*.py")):
        count = sum(bool(line.strip()) for line in file.read_text().splitlines())
        assert re.search(rf"`{file.name}`.*\| {count} \(\d+\)", page), (file.name, count)
