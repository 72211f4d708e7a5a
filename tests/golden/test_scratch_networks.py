"""Backbones of the methods trained from scratch: counts, maps, stems and MEMO's cut."""

import numpy as np
import pytest
import torch
from torch import nn

from clgym.models.networks import StemName, staged
from clgym.models.staged import StagedNetwork

FAMILY = ("scratch_backbones",)
STEMS: dict[tuple[int, ...], StemName] = {
    (3, 1, 0): "3x3",
    (7, 2, 1): "7x7-pool",
    (3, 1, 1): "3x3-pool",
}


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def maps_of(network: StagedNetwork, side: int) -> list[torch.Tensor]:
    with torch.no_grad():
        return network.eval().maps(torch.rand(1, 3, side, side))


def check_maps(network: StagedNetwork, side: int, golden, case: str) -> None:
    maps = maps_of(network, side)
    assert [m.shape[1] for m in maps] == golden[f"{case}.map_channels"].tolist()
    assert [m.shape[-1] for m in maps] == golden[f"{case}.map_sizes"].tolist()
    assert parameters(network) == golden[f"{case}.parameters"]


@pytest.mark.golden("scratch_backbones*")
def test_stems(golden) -> None:
    cases = sorted({key.rpartition(".")[0] for key in golden if key.endswith(".stem")})
    assert len(cases) == 3
    for case in cases:
        out, channels, height, width, stride, pooled = golden[f"{case}.stem"].tolist()
        assert (out, height) == (64, width)
        network = staged("resnet18", channels, STEMS[height, stride, pooled])
        side = 32 if case.endswith("cifar") else 224
        check_maps(network, side, golden, case)


@pytest.mark.golden("scratch_backbones*")
def test_podnets_last_map_alone_is_signed(golden) -> None:
    torch.manual_seed(0)
    network = staged("resnet18", 3, last_relu=False)
    lowest = [float(m.min()) for m in maps_of(network, 32)]
    assert parameters(network) == golden["cosine_resnet18_cifar.parameters_without_fc"]
    known = golden["cosine_resnet18_cifar.min_of_map"]
    assert np.sign(lowest).tolist() == np.sign(known).tolist()


@pytest.mark.golden("scratch_backbones*")
def test_resnet32(golden) -> None:
    count = parameters(staged("resnet32", 3))
    assert count == golden["resnet32_cifar.parameters_without_fc"]


@pytest.mark.golden("scratch_backbones*")
def test_memos_cut(golden) -> None:
    network = staged("resnet18", 3, "7x7-pool").eval()
    base, branch = network.split()
    assert parameters(base) == golden["base_parameters"]
    assert parameters(branch) == golden["branch_parameters"]
    for part, name in ((base, "base"), (branch, "branch")):
        assert [key for key, _ in part.named_parameters()] == golden[f"{name}_names"].tolist()
    for side in (32, 64, 224):
        images = torch.rand(1, 3, side, side)
        with torch.no_grad():
            lower = base(images)
            upper = branch(lower)
            assert torch.equal(upper, network(images))
        assert list(lower.shape) == golden[f"base_output_shape_{side}"].tolist()
        assert list(upper.shape) == golden[f"branch_output_shape_{side}"].tolist()
