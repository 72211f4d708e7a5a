"""Images that a strategy keeps are found in every form and place, and nothing else is."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from clgym.learner import kept_images
from clgym.learner.kept_images import Signatures
from clgym.learner.reachable import arrays_in

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def smooth(count: int, seed: int, shape: tuple[int, int, int] = (3, 16, 16)) -> np.ndarray:
    """uint8 images that are no noise: coarse grids, enlarged."""
    coarse = np.random.default_rng(seed).random((count, shape[0], 4, 4))
    return (np.kron(coarse, np.ones((1, 1, shape[1] // 4, shape[2] // 4))) * 255).astype(np.uint8)


TRAIN, OTHERS = smooth(300, seed=0), smooth(300, seed=1)


def note(known: Signatures, images: np.ndarray, experience: int = 0) -> None:
    known.note(experience, len(images), lambda places: images[places])


def signatures() -> Signatures:
    found = Signatures((3, 16, 16), 255, MEAN, STD)
    note(found, TRAIN[:150])
    note(found, TRAIN[150:], 1)
    return found


def normalised(images: np.ndarray) -> np.ndarray:
    channel = (1, 3, 1, 1)
    return (images / 255 - np.reshape(MEAN, channel)) / np.reshape(STD, channel)


FORMS = {
    "stored": lambda x: torch.from_numpy(x),
    "in [0, 1]": lambda x: torch.from_numpy(x).float() / 255,
    "in [-1, 1]": lambda x: torch.from_numpy(x).float() / 127.5 - 1,
    "normalised": lambda x: torch.from_numpy(normalised(x)).float(),
    "half precision": lambda x: (torch.from_numpy(x).float() / 255).half(),
    "as floats of pixels": lambda x: torch.from_numpy(x).float(),
    "flipped": lambda x: torch.from_numpy(x).flip(3),
    "permuted": lambda x: torch.from_numpy(x.reshape(len(x), -1)[:, ::-1].copy()),
    "numpy": lambda x: x.copy(),
    "all in one row": lambda x: torch.from_numpy(x).reshape(1, -1),
    "bytes": lambda x: x.tobytes(),
}


@pytest.mark.parametrize("form", FORMS)
def test_images_are_found_in_every_form(form: str) -> None:
    held = SimpleNamespace(deep={"list": [None, FORMS[form](TRAIN[20:180])]})
    (found,) = signatures().find(arrays_in({"self": held}))
    assert found.place == "self.deep['list'][*]"
    assert 155 <= found.images <= 160 if form == "half precision" else found.images == 160


@pytest.mark.parametrize("form", FORMS)
def test_other_images_are_not(form: str) -> None:
    held = SimpleNamespace(other=FORMS[form](OTHERS))
    assert signatures().find(arrays_in({"self": held})) == []


def test_weights_moments_and_flat_images_are_not_images() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(768, 500), torch.nn.BatchNorm1d(500))
    held: dict[str, Any] = {
        "network": network,
        "moments": torch.zeros(500, 768),
        "probabilities": torch.rand(500, 768),
        "indices": torch.randint(0, 255, (500, 768)),
    }
    known = signatures()
    note(known, np.zeros((5, 3, 16, 16), np.uint8), 2)
    assert known.find(arrays_in(held)) == []


def test_small_images_are_told_from_numbers() -> None:
    data: Any = load_digits()
    digits = data.images.astype(np.uint8)[:, None]
    known = Signatures((1, 8, 8), 16)
    note(known, digits[:900])
    torch.manual_seed(0)
    held: dict[str, Any] = {"rand": torch.rand(2000, 64), "normal": torch.randn(2000, 64)}
    assert known.find(arrays_in(held)) == []
    (found,) = known.find(arrays_in({"kept": torch.from_numpy(digits[:100]).float() / 16}))
    assert 99 <= found.images <= 102  # each signature stands for 1.8 images


def test_large_experiences_are_sampled_and_counts_scaled_up() -> None:
    many = smooth(5000, seed=2)
    known = Signatures((3, 16, 16), 255)
    note(known, many)
    (found,) = known.find(arrays_in({"kept": torch.from_numpy(many[1000:2000])}))
    assert 850 <= found.images <= 1150


def test_signatures_go_on_in_another_process() -> None:
    known = Signatures((3, 16, 16), 255, MEAN, STD)
    known.load_state_dict(signatures().state_dict())
    (found,) = known.find(arrays_in({"kept": torch.from_numpy(TRAIN)}))
    assert found.images == len(TRAIN)


def test_an_image_that_comes_again_is_one_image() -> None:
    """Recurring experiences and joint training bring an image in several experiences."""
    known = signatures()
    note(known, TRAIN[:150], 2)
    note(known, TRAIN, 3)
    (found,) = known.find(arrays_in({"self": SimpleNamespace(kept=torch.from_numpy(TRAIN[:100]))}))
    assert found.images == 100


def test_signatures_are_the_same_whatever_is_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = signatures().state_dict()
    monkeypatch.setattr(kept_images, "_AT_ONCE", 7 * TRAIN[0].size)
    parts = signatures().state_dict()
    for experience, (table, weight) in whole.items():
        assert torch.equal(parts[experience][0], table) and parts[experience][1] == weight
