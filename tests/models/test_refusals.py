"""Pairings that cannot work are refused with the reason, and nothing is left behind."""

import pytest
import torch
from torch import nn

from clgym.errors import Incompatible, MissingData
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.models import source_models
from clgym.models.networks import Classifier

NOWHERE = {"source": "none,digits"}
"""A stream whose classifier learned from data that are not here."""


@pytest.mark.parametrize(
    ("strategy", "error", "says"),
    [
        ("rmt", Incompatible, "source data at test time"),
        ("eata", Incompatible, "source data at test time"),
        ("tent", MissingData, "training rows, to train a classifier from"),
    ],
)
def test_missing_source_data_are_refused(strategy, error, says, tmp_path):
    request = Request(strategy, "domain-sequence", None, {}, NOWHERE, out=tmp_path / "run")
    with pytest.raises(error, match=says):
        run(request)
    assert not (tmp_path / "run").exists()


def test_a_network_says_which_image_size_it_refuses():
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 8)), 8, 2)
    device = torch.device("cpu")

    def wanted(side: int) -> source_models.ClassifierSpec:
        return source_models.ClassifierSpec((1, side, side), ("a", "b"), (), (), "0" * 64, None)

    source_models._try(classifier, "net", wanted(8), device)
    with pytest.raises(Incompatible, match=r"images that net takes; found \(1, 16, 16\)"):
        source_models._try(classifier, "net", wanted(16), device)
