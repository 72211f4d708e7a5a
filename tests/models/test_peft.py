"""Parameter-efficient parts: sizes, beginnings, and that the frozen network stays as it is."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from clgym.errors import Incompatible
from clgym.models import peft
from clgym.models.backbones import digest


@pytest.fixture(scope="module")
def base() -> nn.Module:
    """ViT-B/16; not on the meta device, where timm 1.0.12 cannot build it."""
    return timm.create_model("vit_base_patch16_224", num_classes=0, weight_init="skip")


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda vit: peft.Adapters(vit, 64), 1_189_632),
        (lambda vit: peft.Adapters(vit, 16), 304_320),
        (lambda vit: peft.ScaleShift(vit), 205_824),
        (lambda vit: peft.DeepPrompts(vit, 5), 46_080),
        (lambda vit: peft.ShallowPrompts(vit, 5), 3_840),
    ],
    ids=["adapter", "mos-adapter", "ssf", "vpt-deep", "vpt-shallow"],
)
def test_trained_parameters_on_vit_b16(make: Any, count: int, base: nn.Module) -> None:
    assert sum(p.numel() for p in base.parameters()) == 85_798_656
    assert sum(p.numel() for p in make(base).parameters() if p.requires_grad) == count


@pytest.fixture
def vit() -> Any:
    torch.manual_seed(0)
    arguments: Any = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **arguments)
    return model.eval().requires_grad_(False)


PARTS = {
    "adapter": lambda vit: peft.Adapters(vit, 4, dropout=0.0),
    "ssf": peft.ScaleShift,
    "deep": lambda vit: peft.DeepPrompts(vit, 3),
    "shallow": lambda vit: peft.ShallowPrompts(vit, 3),
}


@pytest.mark.parametrize("name", PARTS)
def test_training_adapters_leaves_the_network_unchanged(name: str, vit: Any) -> None:
    images, part = torch.rand(4, 3, 32, 32), PARTS[name](vit)
    before, plain = digest(vit), vit(images)
    for value in part.parameters():
        nn.init.normal_(value, std=0.3)
    with part.on(vit):
        out = vit(images)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
    assert (out - plain).abs().max() > 1e-3
    torch.testing.assert_close(vit(images), plain, rtol=0, atol=0)
    assert digest(vit) == before
    assert all(p.grad is None for p in vit.parameters())


def test_adapters_start_as_identity_and_scale_and_shift_near_it(vit: Any) -> None:
    images = torch.rand(2, 3, 32, 32)
    with peft.Adapters(vit, 4).on(vit):
        begun = vit(images)
    torch.testing.assert_close(begun, vit(images))
    part = peft.ScaleShift(vit)
    with part.on(vit):
        assert (vit(images) - begun).abs().max() > 1e-3  # does not begin as nothing
    scales = torch.cat([p.detach() for p in part.scale.values()])
    assert abs(scales.mean() - 1) < 0.01
    assert abs(scales.std() - 0.02) < 0.003


def test_hooks_are_gone_after_an_error(vit: Any) -> None:
    images = torch.rand(1, 3, 32, 32)
    plain = vit(images)
    with pytest.raises(ZeroDivisionError), peft.DeepPrompts(vit, 2).on(vit):
        raise ZeroDivisionError
    torch.testing.assert_close(vit(images), plain, rtol=0, atol=0)


def test_a_bank_sends_every_image_through_its_own(vit: Any) -> None:
    images, bank, wanted = torch.rand(5, 3, 32, 32), peft.AdapterBank(), []
    for _ in range(3):
        part = peft.Adapters(vit, 4).eval()
        for value in part.parameters():
            nn.init.normal_(value, std=0.3)
        bank.add(part)
        with part.on(vit):
            wanted.append(vit(images))
    which = torch.tensor([2, 0, 1, 1, 0])
    with bank.on(vit, which):
        found = vit(images)
    rows: list[Tensor] = [wanted[k][i] for i, k in enumerate(which.tolist())]
    torch.testing.assert_close(found, torch.stack(rows), rtol=1e-4, atol=1e-5)


def test_adapters_refuse_networks_without_transformer_blocks() -> None:
    with pytest.raises(Incompatible):
        peft.Adapters(timm.create_model("resnet10t", num_classes=0), 4)
