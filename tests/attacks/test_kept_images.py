"""Training images that a strategy keeps beside its memory stand in the record."""

from pathlib import Path
from typing import Any

import pytest

from clgym.cli import main
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.results.record import Record

PLUGIN = Path(__file__).parent / "plugins" / "keeps_images.py"


def carried_out(out: Path, name: str = "keeps-images", **config: Any) -> Record:
    return run(
        Request(
            name,
            "split-digits",
            strategy_config=config,
            scenario_config={"per_class": [20, 10]},
            out=out,
            plugins=(PLUGIN,),
            threads=1,
        )
    )


@pytest.mark.parametrize(
    ("where", "place", "images"),
    [
        ("attribute", "self.images_4", 40),
        ("list", "self.hoard[*]['images'][*]", 40),
        ("closure", "self.teller closure images", 40),
        ("global", "ASIDE[*]", 40),
        ("normalised", "self.hoard[*]", 40),
        ("state", "self.kept[*]", 200),
    ],
)
def test_a_hoard_is_named(tmp_path: Path, where: str, place: str, images: int) -> None:
    """All that passes from one experience to the next, and those of one experience elsewhere."""
    record = carried_out(tmp_path / "out", where=where)
    assert record.conduct is not None
    assert record.conduct.kept_images[place] == images
    assert f"{images} images kept outside of the memory: {place}" in record.flags


def test_the_terminal_shows_the_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "keeps-images", "split-digits", "--plugin", str(PLUGIN), "--threads", "1"]
    assert main([*words, "--per-class", "20", "10", "--out", str(tmp_path / "out")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "warning 40 images kept outside of the memory: self.images_0" in shown


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("keeps-images", {"where": "nowhere"}),
        ("replay", {"memory_size": 50}),
        ("derpp", {"memory_size": 50}),
        ("joint", {}),
        pytest.param("refresh", {"base": "derpp", "base.memory_size": 50}, marks=pytest.mark.slow),
        pytest.param("avalanche:Replay", {}, marks=pytest.mark.slow),
        pytest.param("avalanche:EWC", {}, marks=pytest.mark.slow),
    ],
)
def test_what_is_declared_is_no_hoard(tmp_path: Path, name: str, config: dict[str, Any]) -> None:
    record = carried_out(tmp_path / "out", name, **config)
    assert record.conduct is not None
    assert record.conduct.kept_images == {}
