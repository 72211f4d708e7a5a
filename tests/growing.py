"""States of growing networks as golden files name them, put into clgym's networks and compared."""

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

RENAMED = {
    "fe": "extra",
    "backward": "past",
    "forward": "energies",
}
"""Heads that the files call otherwise; beef's merged head is also called otherwise."""


def tensor(value: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(value))


def close(found: Tensor | float, wanted: np.ndarray, atol: float = 1e-9) -> None:
    value = found.detach().numpy() if isinstance(found, Tensor) else found
    np.testing.assert_allclose(value, wanted, rtol=0, atol=atol)


def renamed(group: Mapping[str, np.ndarray], **others: str | None) -> dict[str, Tensor]:
    """A group of a golden file by the names of a network's state; ``others``: further renamings.

    None leaves a part out; the pairs of fusions are gathered.
    """
    names: dict[str, str | None] = {**RENAMED, **others}
    state: dict[str, Tensor] = {}
    pairs = {key: tensor(value) for key, value in group.items() if key.startswith("fusion")}
    for kind in ("alpha", "beta"):
        values = [pairs[f"fusion{i}.{kind}"] for i in range(len(pairs) // 2)]
        if values:
            state[kind] = torch.cat(values)
    for key, value in group.items():
        part, _, rest = key.partition(".")
        if key in pairs:
            continue
        if (branch := re.fullmatch(r"branch(\d+)", part)) is not None:
            state[f"backbone.branches.{branch[1]}.{rest}"] = tensor(value)
        elif part == "base":
            state[f"backbone.base.{rest}"] = tensor(value)
        elif (name := names.get(part, part)) is not None:
            state[f"{name}.{rest}"] = tensor(value)
    return state


def fill(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a network the values of a state, in place: its parameters stay what they are."""
    own = network.state_dict()
    with torch.no_grad():
        for key, value in state.items():
            assert own[key].shape == value.shape, key
            own[key].copy_(value)


def check_state(network: nn.Module, state: Mapping[str, Tensor], atol: float = 1e-9) -> None:
    """Every value of a state stands in the network."""
    own = network.state_dict()
    for key, value in state.items():
        assert own[key].shape == value.shape, key
        np.testing.assert_allclose(
            own[key].detach().numpy(), value.numpy(), rtol=0, atol=atol, err_msg=key
        )


def check_fresh(entries: Tensor, width: int) -> None:
    """Entries of a head are within the bounds of their law, and spread."""
    bound, values = (3 / width) ** 0.5, entries.detach()
    assert float(values.abs().max()) <= bound
    if values.numel() >= 20:
        assert float(values.std()) > 0.3 * bound
