"""Source models by RobustBench's names, ImageNet-C as its tree of files, domains without a home."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data.imagenet_info import ImageNetInfo
from torch import nn
from torchvision import models

from clgym import api
from clgym.adaptation import weights_and_biases
from clgym.data.sources import CARDS, load_source
from clgym.errors import BadConfig, BadSource, Incompatible, MissingData, UnknownName
from clgym.gym.images import StreamImages
from clgym.models.cifar_resnet import CifarResNet
from clgym.models.robustbench import WideResNet
from clgym.models.source_models import ClassifierSpec, identity, resolve
from clgym.streams.adaptation import AdaptationStream
from clgym.streams.arrangement import labels_of

NAMES = ("airplane", "automobile", "bird")
CLASSES = tuple(f"cifar10/{name}" for name in NAMES)


def wanted(root: Path) -> ClassifierSpec:
    return ClassifierSpec((3, 32, 32), CLASSES, (), (), "0" * 64, root)


def stored(root: Path, name: str) -> dict[str, torch.Tensor]:
    """Random weights of a small wide network, as RobustBench stores them."""
    torch.manual_seed(0)
    state = dict(WideResNet(2, 2).state_dict())
    state |= {k: torch.rand_like(v) + 0.5 for k, v in state.items() if "running" in k}
    state |= {"fc.weight": torch.randn(3, 128), "fc.bias": torch.randn(3)}
    folder = root / "models" / "cifar10" / "corruptions"
    folder.mkdir(parents=True)
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, folder / f"{name}.pt")
    return state


def by_hand(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The network written down step by step."""

    def active(place: str, x: torch.Tensor) -> torch.Tensor:
        mean, var = state[f"{place}.running_mean"], state[f"{place}.running_var"]
        weight, bias = state[f"{place}.weight"], state[f"{place}.bias"]
        return F.relu(F.batch_norm(x, mean, var, weight, bias))

    x = F.conv2d(x, state["conv1.weight"], padding=1)
    for stage in (1, 2, 3):
        for i in (0, 1):
            place, stride = f"block{stage}.layer.{i}", 2 if stage > 1 and i == 0 else 1
            y = active(f"{place}.bn1", x)
            short = x
            if f"{place}.convShortcut.weight" in state:
                short = F.conv2d(y, state[f"{place}.convShortcut.weight"], stride=stride)
            y = F.conv2d(y, state[f"{place}.conv1.weight"], stride=stride, padding=1)
            x = short + F.conv2d(
                active(f"{place}.bn2", y), state[f"{place}.conv2.weight"], padding=1
            )
    return F.linear(active("bn1", x).mean((2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize(
    ("name", "shift", "scale"), [("Standard", 0.0, 1.0), ("Hendrycks2020AugMix_WRN", 0.5, 0.5)]
)
def test_a_robustbench_model_is_the_network_of_its_weights(tmp_path, name, shift, scale):
    state = stored(tmp_path, name)
    model, shown = resolve(f"robustbench:{name}", wanted(tmp_path), None, torch.device("cpu"))
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(images), by_hand(state, (images - shift) / scale))
    assert shown == f"robustbench:{name}"


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("Standart", UnknownName, "Did you mean 'Standard'"),
        ("Hendrycks2020AugMix_WRN", MissingData, "models/cifar10/corruptions"),
        ("Standard", BadSource, "weights of robustbench:Standard"),
    ],
)
def test_unavailable_models_are_refused(tmp_path, name, error, says):
    folder = tmp_path / "models" / "cifar10" / "corruptions"
    folder.mkdir(parents=True)
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, folder / "Standard.pt")
    with pytest.raises(error, match=says):
        resolve(f"robustbench:{name}", wanted(tmp_path), None, torch.device("cpu"))


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, str]:
    """A source of three classes and a tree of corrupted images that holds a fourth."""
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        images = generator.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
        np.savez(tmp_path / split, images=images, labels=np.arange(12) % 3, classes=NAMES)
    for number, name in enumerate(("airplane", "automobile", "bird", "zebra")):
        folder = tmp_path / "X-C" / "fog" / "5" / name
        folder.mkdir(parents=True)
        for i in range(4):
            image = np.full((8, 8, 3), 60 * number + i, np.uint8)
            Image.fromarray(image).save(folder / f"{i}.png")
    return tmp_path, f"npz:{tmp_path}"


def test_a_tree_of_published_images_is_read_when_due(tree):
    root, source = tree
    options = {"source": source, "corruptions": "fog", "published": "X-C"}
    stream = api.make_scenario("digits-c", data_root=root, **options)
    assert isinstance(stream, AdaptationStream)
    (segment,), sources = stream.segments, [load_source(source)]
    labels = labels_of(stream.domains[0], sources, root)
    assert labels.tolist() == np.repeat([0, 1, 2], 4).tolist()
    shown = StreamImages(stream, sources, root, 1).gather(0, slice(0, 12))
    values = shown.reshape(12, -1)
    assert (values == values[:, :1]).all()
    assert (values[:, 0] // 60).tolist() == labels[segment.row].tolist()
    assert sorted(values[:, 0] % 60) == sorted([0, 1, 2, 3] * 3)


def test_a_tree_without_a_class_of_the_source_is_named(tree):
    root, source = tree
    for path in (root / "X-C" / "fog" / "5" / "bird").iterdir():
        path.unlink()
    options = {"source": source, "corruptions": "fog", "published": "X-C"}
    with pytest.raises(BadSource, match="none of .*bird"):
        api.make_scenario("digits-c", data_root=root, **options)


def test_domainnet_sequences_are_the_published_ones():
    from clgym.registry import find

    presets = find("scenarios", "domain-sequence").presets
    orders = {
        "real": ["clipart", "painting", "sketch"],
        "clipart": ["sketch", "real", "painting"],
        "painting": ["real", "sketch", "clipart"],
        "sketch": ["painting", "clipart", "real"],
    }
    for home, others in orders.items():
        names = presets[f"domainnet126-{home}"]["source"].split(",")
        assert names == [f"domainnet126-{domain}" for domain in [home, *others]]
        assert CARDS[names[0]].class_count == 126
        assert "VisionLearningGroup" in CARDS[names[0]].origin


@pytest.mark.parametrize("preset", ["domainnet126-real", "imagenet-r-shift"])
def test_missing_data_of_a_preset_are_refused(preset, tmp_path):
    with pytest.raises(MissingData, match=r"domainnet-126/real|imagenet-r"):
        api.make_scenario(preset, data_root=tmp_path)


TEN = tuple(f"cifar10/{i}" for i in range(10))


def of_cifar(root: Path) -> ClassifierSpec:
    return ClassifierSpec((3, 32, 32), TEN, (0.1,) * 3, (0.2,) * 3, "0" * 64, root)


def own_resnet20(path: Path) -> None:
    """Weights of somebody's own under a name that sorts first."""
    torch.manual_seed(0)
    head = {"linear.weight": torch.randn(10, 64), "linear.bias": torch.randn(10)}
    save_file({**CifarResNet(3).state_dict(), **head}, path)


def test_published_weights_are_known_by_their_hash(resnet20, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    own_resnet20(folder / "cifar10_resnet20-0000.safetensors")
    device = torch.device("cpu")
    with pytest.raises(MissingData, match=r"other weights in cifar10_resnet20-0000"):
        resolve("cifar10-resnet20", of_cifar(tmp_path), None, device)
    state = {f"module.{key}": value for key, value in load_file(resnet20).items()}
    torch.save({"state_dict": state}, folder / "resnet20-12fca82f.th")  # as its authors publish it
    model, shown = resolve("cifar10-resnet20", of_cifar(tmp_path), None, device)
    assert shown == "cifar10-resnet20"
    assert identity(model) == "584944517f055ad8a198b6c9f35fbfc71a92feadef867f0be114cf2bd9d8fc24"
    again, _ = resolve(f"resnet20@{resnet20}", of_cifar(tmp_path), None, device)
    assert torch.equal(again.mean, model.mean)  # ImageNet's, however the file is named
    other, _ = resolve(
        "resnet20@cifar10_resnet20-0000.safetensors", of_cifar(tmp_path), None, device
    )
    assert other.mean.flatten().tolist() == pytest.approx([0.1] * 3)


def test_averaged_weights_are_named_in_the_record(tmp_path):
    raw, average = (timm.create_model("test_resnet", num_classes=10).eval() for _ in range(2))
    both = {"state_dict": raw.state_dict(), "state_dict_ema": average.state_dict()}
    torch.save(both, tmp_path / "w.pth")
    name = f"test_resnet@{tmp_path / 'w.pth'}"
    model, shown = resolve(name, of_cifar(tmp_path), None, torch.device("cpu"))
    assert "weights of state_dict_ema" in shown
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        wanted = average((images - model.mean) / model.std)
        torch.testing.assert_close(model(images), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stated", [True, False])
def test_a_guessed_normalisation_is_flagged(stated, tmp_path):
    metadata = {"mean": "[0.3, 0.3, 0.3]", "std": "[0.4, 0.4, 0.4]"} if stated else {}
    state = timm.create_model("test_resnet", num_classes=10).state_dict()
    save_file(state, tmp_path / "w.safetensors", metadata)
    name = f"test_resnet@{tmp_path / 'w.safetensors'}"
    model, shown = resolve(name, of_cifar(tmp_path), None, torch.device("cpu"))
    assert (model.mean.flatten().tolist() == pytest.approx([0.3] * 3)) == stated
    assert ("images scaled as test_resnet's" in shown) == (not stated)


def test_tensorflows_mobilenetv2_is_padded_and_scaled_as_there(mobilenet, tmp_path):
    classes = tuple(ImageNetInfo().label_names())
    fits = ClassifierSpec((3, 64, 64), classes, (), (), "0" * 64, mobilenet.parent.parent)
    model, shown = resolve(f"mobilenetv2_100@{mobilenet.name}", fits, None, torch.device("cpu"))
    assert "pad_type=same" in shown
    peer = timm.create_model("mobilenetv2_100", pad_type="same").eval()
    peer.load_state_dict(load_file(mobilenet))
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images), peer((images - 0.5) / 0.5), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mobilenetv2_035", "test_efficientnet", "test_convnext"])
def test_a_layer_named_head_is_not_taken_for_the_classifier(name, tmp_path):
    """``conv_head`` and ``head.norm`` have more rows than the head."""
    network = timm.create_model(name, num_classes=10).eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    given = f"{name}@{tmp_path / 'w.safetensors'}"
    model, _ = resolve(given, of_cifar(tmp_path), None, torch.device("cpu"))
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        wanted = network((images - model.mean) / model.std)
        torch.testing.assert_close(model(images), wanted, rtol=1e-4, atol=1e-5)


def test_a_network_without_a_linear_classifier_is_refused(tmp_path):
    network = models.get_model("squeezenet1_1", num_classes=10)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    given = f"torchvision:squeezenet1_1@{tmp_path / 'w.safetensors'}"
    with pytest.raises(Incompatible, match="linear"):
        resolve(given, of_cifar(tmp_path), None, torch.device("cpu"))


def test_googlenet_asks_whether_it_scales_its_images(tmp_path):
    network = models.googlenet(num_classes=10, init_weights=False).eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    device, fits, file = torch.device("cpu"), of_cifar(tmp_path), tmp_path / "w.safetensors"
    with pytest.raises(BadConfig, match="transform_input"):
        resolve(f"torchvision:googlenet@{file}", fits, None, device)
    images = torch.rand(2, 3, 32, 32)
    for scales in (True, False):
        network.transform_input = scales
        name = f"torchvision:googlenet[transform_input={scales}]@{file}"
        model, _ = resolve(name, fits, None, device)
        with torch.no_grad():
            wanted = network((images - model.mean) / model.std)
            torch.testing.assert_close(model(images), wanted)


def test_the_network_of_domainnet_keeps_its_normalised_head(tmp_path):
    body: Any = models.resnet50()
    body.fc = nn.Linear(2048, 256)
    encoder = nn.Sequential(body, nn.BatchNorm1d(256)).eval()
    state = {f"module.encoder.{key}": value for key, value in encoder.state_dict().items()}
    length, direction, bias = torch.rand(3, 1) + 0.5, torch.randn(3, 256), torch.randn(3)
    head = {"weight_g": length, "weight_v": direction, "bias": bias}
    state |= {f"module.fc.{key}": value for key, value in head.items()}
    torch.save({"state_dict": state}, tmp_path / "best.pth")
    name = f"resnet50-bottleneck@{tmp_path / 'best.pth'}"
    fits = ClassifierSpec((3, 64, 64), CLASSES, (), (), "0" * 64, tmp_path)
    model, _ = resolve(name, fits, None, torch.device("cpu"))
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        features = encoder((images - mean) / std)
        wanted = features @ (length * F.normalize(direction, dim=1)).T + bias
        torch.testing.assert_close(model(images), wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model.features(images), features, rtol=1e-4, atol=1e-4)
    adapted = weights_and_biases(model)
    assert "head.bias" in adapted
    assert "head.weight" not in adapted  # as in the authors' code
