"""Orders of adaptation streams against the published rules, draw for draw."""

import re

import numpy as np
import pytest

from clgym.streams.orders import dirichlet, shuffled, sorted_by_label, zipf_counts

FAMILY = ("stream_orders",)


@pytest.mark.golden("stream_orders*")
def test_orders_are_drawn_as_published(golden):
    labels, seed = golden["labels"], int(golden["seed"])
    order = shuffled(len(labels), seed)
    made = {
        "order_continual": order,
        "order_subsample_half": shuffled(len(labels), seed, len(labels) // 2),
        "order_correlated": sorted_by_label(order, labels),
        "order_dirichlet": dirichlet(order, labels, float(golden["delta"]), seed),
    }
    limits = {"validation": (0.2, 0.8), "benchmark": (0.1, 0.9)}
    for name in golden:
        if match := re.fullmatch(r"zipf_(\w+)_K(\d+)_n(\d+)", name):
            top, limit = limits[match[1]]
            made[name] = zipf_counts(int(match[2]), int(match[3]), seed, top=top, limit=limit)
    assert {n for n in golden if n.startswith(("order_", "zipf_"))} == set(made)
    for name, values in made.items():
        np.testing.assert_array_equal(values, golden[name], err_msg=name)
