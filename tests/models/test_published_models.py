"""Source models by RobustBench's names, ImageNet-C as its tree of files, domains without a home."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from clgym import api
from clgym.data.sources import CARDS, load_source
from clgym.errors import BadSource, MissingData, UnknownName
from clgym.gym.images import StreamImages
from clgym.models.robustbench import WideResNet
from clgym.models.source_models import Wanted, resolve
from clgym.streams.adaptation import AdaptationStream, labels_of

NAMES = ("airplane", "automobile", "bird")
CLASSES = tuple(f"cifar10/{name}" for name in NAMES)


def wanted(root: Path) -> Wanted:
    return Wanted((3, 32, 32), CLASSES, (), (), "0" * 64, root)


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
def test_models_that_cannot_be_had_are_named(tmp_path, name, error, says):
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
def test_sets_that_are_not_here_are_named(preset, tmp_path):
    with pytest.raises(MissingData, match=r"domainnet-126/real|imagenet-r"):
        api.make_scenario(preset, data_root=tmp_path)
