"""Backbones: names, weights, identity, and what a network is fed."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision import transforms

from clgym.errors import BadConfig, BadSource, ClgymError, Incompatible, MissingData, UnknownName
from clgym.models import backbones
from clgym.models.backbones import Backbone, Frozen, identify, load
from clgym.models.names import parse
from clgym.models.pretraining import overlap, seen_in

SHAPE = "img_size=32,patch_size=8,embed_dim=32,depth=2,num_heads=4"
VIT = f"vit_tiny_patch16_224[{SHAPE}]"
RANDOM = Frozen(f"{VIT}@random", 32, "stretch")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLGYM_CACHE", str(tmp_path / "cache"))


def vit(**arguments: Any) -> Any:
    pairs = (pair.split("=") for pair in SHAPE.split(","))
    given: dict[str, Any] = {key: int(value) for key, value in pairs} | arguments
    return timm.create_model("vit_tiny_patch16_224", **given).eval()


def test_feature_is_the_class_token_after_the_last_norm() -> None:
    backbone, images = load(RANDOM), torch.rand(3, 3, 32, 32)
    tokens = backbone.model.forward_features(images)
    torch.testing.assert_close(backbone(images), tokens[:, 0], rtol=0, atol=0)
    assert (backbone(images) - tokens.mean(1)).abs().max() > 0.1
    torch.testing.assert_close(backbone(images), backbone(images), rtol=0, atol=0)
    assert not any(p.requires_grad for p in backbone.parameters())


def test_weights_from_a_file_with_its_head(tmp_path: Path) -> None:
    peer = vit(num_classes=7)
    save_file(peer.state_dict(), tmp_path / "a.safetensors")
    state = {f"module.{k}": v for k, v in peer.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "b.pth")
    images = torch.rand(2, 3, 32, 32)
    wanted = peer.forward_features(images)[:, 0]
    ids = []
    for file in ("a.safetensors", "b.pth"):
        frozen = Frozen(f"{VIT}@{tmp_path / file}", 32, "stretch")
        torch.testing.assert_close(load(frozen)(images), wanted, rtol=0, atol=0)
        ids.append(identify(frozen))
    assert ids[0] == ids[1]
    assert str(tmp_path) not in ids[0].name
    again = Frozen(ids[0].name, 32, "stretch")  # as a record names it
    torch.testing.assert_close(load(again)(images), wanted, rtol=0, atol=0)
    assert identify(again) == ids[0]


def test_identity_moves_with_a_single_weight(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file(vit(num_classes=0).state_dict(), file)
    frozen = Frozen(f"{VIT}@{file}", 32)
    before = identify(frozen)
    state = load_file(file)
    state["norm.bias"][3] += 1e-6
    save_file(state, file)
    after = identify(frozen)
    assert before.weights != after.weights
    assert (before.check, before.width, before.parameters) == ("unverified", 32, 32224)


def test_random_weights_are_always_the_same_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    first = identify(RANDOM)
    torch.manual_seed(6)
    images = torch.rand(1, 3, 32, 32)
    drawn = load(RANDOM)(images)
    torch.testing.assert_close(load(RANDOM)(images), drawn, rtol=0, atol=0)
    assert (first, first.check) == (identify(RANDOM), "random")


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("vit_base_patch16_224", UnknownName, "vit_base_patch16_224.augreg_in21k"),
        ("vit_base_patch16_224.augreg_in21", UnknownName, "augreg_in21k"),
        ("vit_base_patch", UnknownName, "vit_base"),
        ("vit_base_patch16_224.augreg_in21k", MissingData, "clgym fetch"),
        ("vit_tiny_patch16_224@/nowhere/w.safetensors", MissingData, "NAME@FILE"),
        ("vit_tiny_patch16_224@sha256:00", MissingData, "sha256:00"),
        ("vit_tiny_patch16_224[embed_dimm=3]@random", BadConfig, "embed_dimm"),
        ("vit tiny", BadConfig, "NAME@FILE"),
    ],
)
def test_unknown_backbone_names_are_refused(
    name: str, error: type[ClgymError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(error) as caught:
        identify(Frozen(name))
    assert words in str(caught.value)


@pytest.mark.parametrize("whole", [True, False])
def test_weights_off_the_hub_are_compared_with_their_sha256(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """As the hub's cache has it: a link to a file that is named by its hash."""
    tag, content = "vit_tiny_patch16_224.augreg_in21k", b"weights"
    blob = tmp_path / "blobs" / hashlib.sha256(content).hexdigest()
    blob.parent.mkdir()
    blob.write_bytes(content if whole else content[:-1])
    file = tmp_path / "model.safetensors"
    file.symlink_to(blob)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_: str(file))
    if whole:
        assert backbones.fetch(tag) == file
    else:
        with pytest.raises(BadSource, match=rf"{tag} with SHA-256 {blob.name}.*fetch again"):
            backbones.fetch(tag)


def test_invalid_weight_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.safetensors").write_bytes(b"no tensors")
    torch.save({"x": print}, tmp_path / "code.pth")  # needs unpickling of more than tensors
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    for file in ("t.safetensors", "code.pth", "other.safetensors"):
        with pytest.raises(BadSource):
            identify(Frozen(f"{VIT}@{tmp_path / file}"))


def test_another_input_size_interpolates_the_position_embedding() -> None:
    from timm.layers.pos_embed import resample_abs_pos_embed

    wide = load(Frozen(RANDOM.name, 64, "stretch"))
    native = load(RANDOM).model.pos_embed
    wanted = resample_abs_pos_embed(native, new_size=[8, 8], num_prefix_tokens=1)
    torch.testing.assert_close(wide.model.pos_embed, wanted)
    assert wide(torch.rand(1, 3, 40, 40)).shape == (1, 32)
    assert identify(RANDOM) == identify(Frozen(RANDOM.name, 64, "stretch"))
    with pytest.raises(Incompatible):
        load(Frozen(RANDOM.name, 33))


def test_crop_is_torchvisions_resize_and_centre_crop() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    peer = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
        ]
    )
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    fed = backbones._FITS["crop"](images, 224)
    wanted: Any = peer(Image.fromarray(pixels))
    assert fed.shape == (1, 3, 224, 224)
    assert (fed[0] - wanted).abs().max() <= 1.01 / 255  # one level of 8-bit rounding


def test_stretch_keeps_corners_and_grey_stays_grey() -> None:
    images = torch.full((1, 1, 8, 8), 0.5)
    images[0, 0, 0, 0] = 1.0
    backbone = load(RANDOM)
    fed = backbone.prepare(images)
    assert fed.shape == (1, 3, 32, 32)
    assert fed[0, 2, 0, 0] == 1.0
    assert (fed[:, :, 8:, 8:] == 0.5).all()


def test_normalising_uses_the_weights_own_numbers() -> None:
    images = torch.rand(2, 3, 32, 32)
    fed = load(Frozen(RANDOM.name, 32, "stretch", normalise=True)).prepare(images)
    torch.testing.assert_close(fed, (images - 0.5) / 0.5)


def test_a_cnn_gives_its_pooled_features() -> None:
    backbone = load(Frozen("resnet10t@random", 32, "stretch"))
    assert isinstance(backbone, Backbone)
    images = torch.rand(2, 3, 32, 32)
    maps = backbone.model.forward_features(images)
    torch.testing.assert_close(backbone(images), maps.mean((2, 3)))


def test_classes_in_the_pretraining_data_of_a_tag() -> None:
    assert seen_in("vit_base_patch16_224.augreg_in21k") == ("imagenet-21k",)
    both = ("imagenet-21k", "imagenet-1k")
    assert seen_in("vit_base_patch16_224.augreg_in21k_ft_in1k") == both
    assert seen_in("vit_base_patch16_224.dino") == ()


def test_overlap_with_imagenet() -> None:
    classes = ["cifar100/lawn_mower", "cifar100/maple_tree", "imagenet/n01440764", "digits/3"]
    assert overlap(["imagenet-1k"], classes) == ["cifar100/lawn_mower", "imagenet/n01440764"]
    assert overlap([], classes) == []


@pytest.mark.parametrize("name", ["mobilenetv4_conv_small_035", "lcnet_035", "test_mambaout"])
def test_the_width_is_that_of_the_vectors(name: str) -> None:
    """These state another one as ``num_features``."""
    network = timm.create_model(name, num_classes=0).eval()
    frozen = Frozen(f"{name}@random", 32, "stretch")
    with torch.no_grad():
        width = network(torch.zeros(1, 3, 32, 32)).shape[1]
    assert width != network.num_features
    assert (load(frozen).width, identify(frozen).width) == (width, width)


def test_a_network_that_does_not_take_the_side_is_named() -> None:
    with pytest.raises(Incompatible, match="--image-size"):
        load(Frozen("efficientformerv2_s0@random", 32, "stretch"))


@pytest.mark.parametrize(
    ("text", "arguments", "bare"),
    [
        ("a[mean=0.5x0.25,b=2]@f", {"mean": (0.5, 0.25), "b": 2}, "a[b=2,mean=0.5x0.25]"),
        ("a[pad_type=same]@f", {"pad_type": "same"}, "a[pad_type=same]"),
    ],
)
def test_names_are_taken_apart_and_put_together(text: str, arguments: Any, bare: str) -> None:
    name = parse(text)
    assert (name.arguments, name.bare, parse(f"{name.bare}@f")) == (arguments, bare, name)


def test_a_non_numeric_mean_is_refused() -> None:
    with pytest.raises(BadConfig, match=r"mean=0\.5x0\.5x0\.5"):
        parse("a[mean=grey]@f")


def test_a_files_own_normalisation_is_taken_and_stands_in_the_name(tmp_path: Path) -> None:
    images = torch.rand(2, 3, 32, 32)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    stated = {"mean": str(list(mean)), "std": str(list(std))}
    save_file(vit(num_classes=7).state_dict(), tmp_path / "w.safetensors", stated)
    found = identify(Frozen(f"{VIT}@{tmp_path / 'w.safetensors'}", 32))
    assert "mean=0.1x0.2x0.3" in found.name
    assert "std=0.5x0.6x0.7" in found.name
    scale = torch.tensor([mean, std]).view(2, 3, 1, 1)
    for name in (f"{VIT}@{tmp_path / 'w.safetensors'}", found.name):
        fed = load(Frozen(name, 32, "stretch", normalise=True)).prepare(images)
        torch.testing.assert_close(fed, (images - scale[0]) / scale[1])


def test_a_backbones_name_says_that_averaged_weights_were_taken(tmp_path: Path) -> None:
    raw, average = vit(num_classes=0), vit(num_classes=0)
    both = {"model": raw.state_dict(), "model_ema": average.state_dict()}
    torch.save(both, tmp_path / "w.pth")
    found = identify(Frozen(f"{VIT}@{tmp_path / 'w.pth'}", 32))
    assert "averaged=model_ema" in found.name
    images = torch.rand(2, 3, 32, 32)
    for name in (f"{VIT}@{tmp_path / 'w.pth'}", found.name):
        features = load(Frozen(name, 32, "stretch"))(images)
        torch.testing.assert_close(features, average(images), rtol=0, atol=0)


def test_weights_are_found_by_name_in_the_data_root(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    save_file(vit(num_classes=0).state_dict(), tmp_path / "weights" / "own.safetensors")
    frozen = Frozen(f"{VIT}@own.safetensors", 32)
    assert identify(frozen, tmp_path).check == "unverified"
    assert load(frozen, data_root=tmp_path).width == 32


def test_deit_under_the_name_of_a_vit_is_normalised_as_deit(deit: Path) -> None:
    digest = "cb15d4b5f35bb048e9ca6055e0a3a5c00eab6b6bcbde6cac8973cd1006f04a6c"
    images = torch.rand(1, 3, 224, 224)
    fed = []
    for name in ("deit_tiny_patch16_224", "vit_tiny_patch16_224"):
        frozen = Frozen(f"{name}@{deit.name}", 224, "stretch", normalise=True)
        assert identify(frozen).weights == digest
        fed.append(load(frozen).prepare(images))
    assert torch.equal(*fed)
    name = identify(Frozen(f"deit_tiny_patch16_224@{deit.name}")).name
    assert name == f"deit_tiny_patch16_224@sha256:{digest}"


def test_mobilenetv2_of_tensorflow_is_padded_as_there(mobilenet: Path) -> None:
    digest = "522a8d631041e30c1b829b53a24921b29a005502e38146c5e2bd8521a552af1a"
    found = identify(Frozen(f"mobilenetv2_100@{mobilenet.name}"))
    assert found.weights == digest
    assert "[mean=0.5x0.5x0.5,pad_type=same,std=0.5x0.5x0.5]" in found.name
    images = torch.rand(2, 3, 64, 64)
    network: Any = timm.create_model("mobilenetv2_100", pad_type="same").eval()
    network.requires_grad_(False).load_state_dict(load_file(mobilenet))
    network.reset_classifier(0)
    for name in (f"mobilenetv2_100@{mobilenet.name}", found.name):
        assert torch.equal(load(Frozen(name, 64, "stretch"))(images), network(images))
    with pytest.raises(BadConfig, match="pad_type=same"):  # as records of earlier versions have it
        load(Frozen(f"mobilenetv2_100@sha256:{digest}", 64))
    with pytest.raises(BadConfig, match="pad_type=same"):
        load(Frozen(f"mobilenetv2_100[pad_type='']@{mobilenet.name}", 64))
