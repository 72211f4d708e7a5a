"""What wraps a network's weights in files, and files that are none."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from clgym.errors import BadSource
from clgym.models.weight_files import digest_of, find_file, read, weight_folder

NET = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
RAW = {key: value.clone() for key, value in NET.state_dict().items()}
AVERAGE = {k: v + 0.5 if v.is_floating_point() else v for k, v in RAW.items()}


def under(prefix: str, state: dict[str, Tensor] = RAW) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def same(state: dict[str, Tensor], wanted: dict[str, Tensor] = RAW) -> bool:
    return state.keys() == wanted.keys() and all(torch.equal(state[k], wanted[k]) for k in wanted)


@pytest.mark.parametrize(
    "held",
    [
        RAW,
        {"state_dict": RAW},
        {"model_state_dict": RAW, "optimizer_state_dict": {"state": {}}, "epoch": 3},
        {"model": RAW, "args": argparse.Namespace(lr=0.1)},
        under("module."),
        under("_orig_mod."),
        under("module._orig_mod."),
        under("_orig_mod.module."),
        {"state_dict": under("model."), "pytorch-lightning_version": "2.5.0", "epoch": 1},
        {"state_dict": under("model._orig_mod.") | {"criterion.weight": torch.ones(2)}},
        AveragedModel(NET).state_dict(),
    ],
)
def test_training_wrappers_around_weights_are_removed(held, tmp_path):
    torch.save(held, tmp_path / "w.pth")
    file = read(tmp_path / "w.pth")
    assert same(file.state)
    assert file.averaged == ""


@pytest.mark.parametrize("wrapper", [torch.nn.DataParallel, torch.compile])
def test_torch_wrappers_around_weights_are_removed(wrapper, tmp_path):
    save_file(wrapper(NET).state_dict(), tmp_path / "w.safetensors")
    assert same(read(tmp_path / "w.safetensors").state)


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ({"state_dict": RAW, "state_dict_ema": AVERAGE}, "state_dict_ema"),
        ({"model": RAW, "model_ema": under("module.", AVERAGE)}, "model_ema"),
        ({"state_dict": under("model.") | under("model_ema.module.", AVERAGE)}, "model_ema"),
        ({"state_dict": under("model.") | under("ema.", AVERAGE)}, "ema"),
    ],
)
def test_averaged_weights_are_taken_and_named(held, says, tmp_path):
    torch.save(held, tmp_path / "w.pth")
    file = read(tmp_path / "w.pth")
    assert same(file.state, AVERAGE)
    assert file.averaged == says


def test_layer_names_with_a_common_prefix_are_kept(tmp_path):
    state = {"model.a": torch.ones(1), "other.b": torch.ones(1)}
    save_file(state, tmp_path / "w.safetensors")
    assert same(read(tmp_path / "w.safetensors").state, state)


def test_half_precision_becomes_float32(tmp_path):
    save_file({"a": torch.ones(2).half(), "n": torch.tensor(3)}, tmp_path / "w.safetensors")
    state = read(tmp_path / "w.safetensors").state
    assert (state["a"].dtype, state["n"].dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git-lfs pointer"),
        (b"no tensors", "w.safetensors"),
    ],
)
def test_weight_files_of_other_kinds_are_refused_by_what_they_are(content, says, tmp_path):
    for name in ("w.safetensors", "w.pth"):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadSource, match=says):
        read(tmp_path / "w.safetensors")
    with pytest.raises(BadSource):
        read(tmp_path / "w.pth")


def test_weights_with_nan_are_refused(tmp_path):
    state = {**RAW, "0.weight": torch.full((2, 3), torch.nan)}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(BadSource, match=r"NaN in 0\.weight"):
        read(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("metadata", "wanted"),
    [
        ({"mean": "[0.1, 0.2, 0.3]", "std": "[1, 2, 3]"}, ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))),
        ({"pretrained_cfg": '{"mean": [0.5], "std": [0.25]}'}, ((0.5,), (0.25,))),
        ({"format": "pt", "mean": "unknown"}, (None, None)),
    ],
)
def test_metadata_state_the_normalisation(metadata, wanted, tmp_path):
    save_file(RAW, tmp_path / "w.safetensors", metadata)
    facts = read(tmp_path / "w.safetensors").facts
    assert (facts.get("mean"), facts.get("std")) == wanted


def test_a_hubs_config_beside_the_file_states_it_too(tmp_path):
    save_file(RAW, tmp_path / "model.safetensors")
    held: dict[str, Any] = {"architecture": "x", "pretrained_cfg": {"mean": [0.5], "std": [0.1]}}
    (tmp_path / "config.json").write_text(json.dumps(held))
    facts = {"architecture": "x", "mean": (0.5,), "std": (0.1,)}
    assert read(tmp_path / "model.safetensors").facts == facts


def test_a_file_is_a_path_or_a_name_in_the_data_root(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CLGYM_DATA", str(tmp_path / "env"))
    for root in ("env", "given"):
        (tmp_path / root / "weights").mkdir(parents=True)
        (tmp_path / root / "weights" / "w.pth").touch()
    assert find_file("w.pth") == tmp_path / "env" / "weights" / "w.pth"
    assert find_file("w.pth", tmp_path / "given") == tmp_path / "given" / "weights" / "w.pth"
    assert find_file(str(tmp_path / "env" / "weights" / "w.pth")) == weight_folder() / "w.pth"
    assert find_file("v.pth") is None


def test_the_digest_is_of_names_types_shapes_and_bytes():
    first = digest_of(RAW)
    assert digest_of(dict(reversed(RAW.items()))) == first
    for other in ({**RAW, "0.bias": RAW["0.bias"].double()}, under("a.")):
        assert digest_of(other) != first
