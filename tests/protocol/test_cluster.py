"""The same study on a cluster: one machine, two simulated nodes, one of them lost, and submitit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clgym.engines.pool import PoolSpec
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import read_certificate, tune

pytestmark = pytest.mark.slow


def test_ray_on_two_nodes_one_of_which_is_lost(
    finished: Path, tmp_path: Path, plugin: Path, asked: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray: Any = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    size = 100 * 2**20
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": size}
    )
    lost = []
    try:
        other = cluster.add_node(num_cpus=1, object_store_memory=size)

        def lose(event: dict) -> None:
            if event["kind"] == "end" and not lost:
                lost.append(event["key"])
                cluster.remove_node(other)

        pool = PoolSpec("ray", 2, options={"address": cluster.address})
        certificate = tune(
            asked(), ExecutionOptions(tmp_path / "study", pool, plugins=(plugin,)), lose
        )
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert lost and certificate.hash == read_certificate(finished).hash


def test_ray_on_this_machine(finished: Path, tmp_path: Path, plugin: Path, asked: Callable) -> None:
    pytest.importorskip("ray")
    where = ExecutionOptions(tmp_path / "study", PoolSpec("ray", 2), plugins=(plugin,))
    assert tune(asked(), where).hash == read_certificate(finished).hash


def test_submitit_on_this_machine(
    finished: Path, tmp_path: Path, plugin: Path, asked: Callable
) -> None:
    pytest.importorskip("submitit")
    options = {"cluster": "local", "folder": str(tmp_path / "logs")}
    where = ExecutionOptions(
        tmp_path / "study", PoolSpec("slurm", 2, options=options), plugins=(plugin,)
    )
    assert tune(asked(), where).hash == read_certificate(finished).hash
