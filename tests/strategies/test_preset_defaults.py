"""Defaults that a preset sets: training that is long enough for replay to help."""

from pathlib import Path

import pytest

from clgym.config import Field
from clgym.gym.plan import resolve
from clgym.gym.request import Request, preset_values
from clgym.gym.run import run


def options(**defaults: int) -> list[Field]:
    return [Field(name.replace("__", "."), "int", value) for name, value in defaults.items()]


def test_a_preset_lengthens_training_where_the_default_is_one_epoch():
    known = options(epochs=1, base__epochs=1, memory_size=200, lr=3)
    preset = {"default_epochs": 5, "memory_size": 100, "domains": 4}
    assert preset_values(known, preset) == {"epochs": 5, "base.epochs": 5, "memory_size": 100}
    assert preset_values(options(epochs=20), preset) == {}  # the authors' own number stays
    assert preset_values(known, {"default_epochs": 1}) == {}


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["permuted-digits-v2", "split-digits"])
def test_replay_is_above_naive_on_the_small_presets(stream: str, tmp_path: Path):
    """Means of two seeds, untuned, on the test rows, which no default was chosen on."""
    last = {
        name: [
            run(
                Request(
                    name,
                    stream,
                    seed=seed,
                    threads=1,
                    engine="inline",
                    out=tmp_path / f"{name}-{seed}",
                )
            ).result.last_accuracy
            for seed in (0, 1)
        ]
        for name in ("naive", "replay")
    }
    assert sum(last["replay"]) > sum(last["naive"]), last


def test_an_option_goes_before_the_presets_default():
    def epochs(scenario: str, **given: int) -> object:
        request = Request("naive", scenario, strategy_config=given, engine="inline")
        return resolve(request).strategy_config["epochs"]

    assert epochs("permuted-digits-v2") == 5
    assert epochs("permuted-digits-v2", epochs=2) == 2
    assert epochs("permuted-digits") == 1  # numbers under the old name stay
