"""Published weights, where the data root has them."""

import os
from pathlib import Path

import pytest


def published(name: str) -> Path:
    """The file of that name in the data root; the test is skipped where it is not."""
    path = Path(os.environ.get("CLGYM_DATA", ".")) / "weights" / name
    if not path.is_file():
        pytest.skip(f"no weights/{name} in the data root")
    return path


@pytest.fixture
def deit() -> Path:
    return published("deit_tiny_patch16_224.imagenet1k.safetensors")


@pytest.fixture
def mobilenet() -> Path:
    return published("mobilenetv2_100.tf_imagenet1k.safetensors")


@pytest.fixture
def resnet20() -> Path:
    return published("cifar10_resnet20-12fca82f.safetensors")
