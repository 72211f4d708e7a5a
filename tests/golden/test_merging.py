"""Merged networks against the released code of averages, task arithmetic and TIES, in float64."""

import json

import numpy as np
import pytest
import torch

from clgym.models.merging import average, task_arithmetic, ties

FAMILY = ("merge_",)


def near(found, wanted, tolerance) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(
            found[name].numpy(),
            value,
            rtol=tolerance.get("rtol", 0.0),
            atol=tolerance.get("atol", 0.0),
            err_msg=name,
        )


@pytest.mark.golden("merge_*")
def test_merge(golden) -> None:
    hp = json.loads(str(golden["hp"]))
    keys = hp["float_keys"]

    def network(prefix: str) -> dict[str, torch.Tensor]:
        group = golden.group(prefix)
        return {name: torch.from_numpy(group[name]) for name in keys}

    start = network("base.")
    models = [network(f"model{i}.") for i in range(hp["n_models"])]
    scale, keep = hp["scaling"], hp["ties_keep_percent"]
    found = {
        "average": average(models),
        "weighted": average(models, hp["weights"]),
        "task_arithmetic": task_arithmetic(start, models, scale),
        "task_negation0": task_arithmetic(start, models[:1], -scale),
        "ties_mean": ties(start, models, scale, keep, "mean"),
        "ties_sum": ties(start, models, scale, keep, "sum"),
        "ties_max": ties(start, models, scale, keep, "max"),
    }
    for name, merged in found.items():
        near(merged, golden.group(f"{name}."), hp["tol"])
