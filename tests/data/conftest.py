import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CLGYM_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """One cache for all tests on real data, so that each source is decoded once."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def data_root(monkeypatch, kept):
    if not os.environ.get("CLGYM_DATA"):
        pytest.skip("CLGYM_DATA names no folder of real data")
    monkeypatch.setenv("CLGYM_CACHE", str(kept))
    return Path(os.environ["CLGYM_DATA"])


@pytest.fixture
def make_npz():
    """Write an npz of random images; the answer is what was written."""

    def make(path, n=20, classes=("cat", "dog"), seed=0, shape=(6, 5, 3), **changes):
        generator = np.random.default_rng(seed)
        content = {
            "images": generator.integers(0, 256, (n, *shape), dtype=np.uint8),
            "labels": np.arange(n, dtype=np.int64) % len(classes),
            "classes": np.array(classes),
            **changes,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **content)
        return content

    return make


@pytest.fixture
def make_tree():
    """Write a tree of PNG files, a folder a class; the answer are the pixels by path."""
    from PIL import Image

    def make(folder, classes=("cat", "dog"), n=5, size=(12, 9), seed=0):
        generator = np.random.default_rng(seed)
        pixels = {}
        for name in classes:
            (folder / name).mkdir(parents=True)
            for i in range(n):
                path = folder / name / f"{i}.png"
                pixels[path] = generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                Image.fromarray(pixels[path]).save(path)
        return pixels

    return make
