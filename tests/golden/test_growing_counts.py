"""Parameters of the growing networks, task by task, against the authors' networks."""

from typing import Any

import pytest
import torch
from torch import nn

from clgym.models.expanding import Branches, ExpandingClassifier
from clgym.models.networks import staged
from clgym.registry import find, load_module

FAMILY = ("scratch_parameter_counts",)
META = torch.device("meta")

beef = load_module(find("strategies", "beef"))
foster = load_module(find("strategies", "foster"))


def count(*modules: nn.Module | None, trained: bool = False) -> int:
    parameters = [p for m in modules if m is not None for p in m.parameters()]
    return sum(p.numel() for p in parameters if p.requires_grad or not trained)


def seen(golden) -> list[int]:
    return golden["increments"].cumsum().tolist()


def check_expanding(network: ExpandingClassifier, golden, name: str) -> None:
    """The authors' first task has an auxiliary head too, which nothing reads."""
    columns = seen(golden)
    unused = (columns[0] + 1) * (network.backbone.width + 1)
    for task, classes in enumerate(columns):
        network.grow(classes)
        more = 0 if task else unused
        assert count(network) + more == golden[name][task]
        assert count(network, trained=True) + more == golden[f"{name}_trained"][task]


@pytest.mark.golden("scratch_parameter_counts*")
def test_expandable(golden) -> None:
    branch = staged("resnet18", 3).to(META)
    network = ExpandingClassifier(Branches(branch, branch.width)).to(META)
    check_expanding(network, golden, "expandable")


@pytest.mark.golden("scratch_parameter_counts*")
def test_memo(golden) -> None:
    whole = staged("resnet18", 3, "7x7-pool").to(META)
    base, branch = whole.split()
    network = ExpandingClassifier(Branches(branch, whole.width, base)).to(META)
    check_expanding(network, golden, "memo")


@pytest.mark.golden("scratch_parameter_counts*")
def test_foster(golden) -> None:
    branch = staged("resnet18", 3).to(META)
    network: Any = foster.BoostedClassifier(Branches(branch, branch.width)).to(META)
    for task, classes in enumerate(seen(golden)):
        network.grow(classes)
        boosted = count(network.backbone, network.head)
        assert boosted == golden["foster_boosted_branches_and_head"][task]
        if task:
            network = network.student()
        assert count(network) == golden["foster_compressed_branch_and_head"][task]


@pytest.mark.golden("scratch_parameter_counts*")
def test_beef(golden) -> None:
    network: Any = beef.BeefClassifier(staged("resnet32", 3), 64).to(META)
    for task, classes in enumerate(seen(golden)):
        network.grow(classes)
        assert count(network.backbone) == golden["beef_branches"][task]
    assert count(network.merged_head()) == golden["beef_merged_head_final"]
