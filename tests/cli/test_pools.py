"""How many runs are carried out at a time, and where."""

import argparse

import pytest

from clgym.cli._batch import is_batch
from clgym.cli._pools import add_pool_flags, pool_of
from clgym.engines.pool import PoolSpec
from clgym.errors import BadConfig


def pool(*words: str) -> PoolSpec:
    parser = argparse.ArgumentParser()
    add_pool_flags(parser)
    return pool_of(parser.parse_args(words))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), ["cpu"]),
        (("--workers-per-device", "2"), ["cpu", "cpu"]),
        (("--devices", "cuda:0,cuda:1"), ["cuda:0", "cuda:1"]),
        (
            ("--devices", "cuda:0,cuda:1", "--workers-per-device", "3"),
            ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0", "cuda:1"],
        ),
    ],
)
def test_each_device_gets_as_many_workers(words: tuple[str, ...], expected: list[str]) -> None:
    made = pool(*words)
    assert [made.device(number) for number in range(made.workers)] == expected


@pytest.mark.parametrize("engine", ["ray", "slurm"])
def test_clusters_give_out_devices_themselves(engine: str) -> None:
    with pytest.raises(BadConfig, match="--workers-per-device.*gpus=0.5"):
        pool("--engine", engine, "--workers-per-device", "2")


def test_a_command_with_the_option_is_a_batch() -> None:
    assert is_batch(["nmc", "split-digits"], ["--workers-per-device=2"])
