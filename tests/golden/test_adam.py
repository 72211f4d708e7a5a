"""ADAM/APER: modules, the cosine classifier and whole sessions against the authors' code."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clgym.models import peft
from clgym.models.backbones import Frozen, load
from clgym.models.heads import CosineHead, cosine_logits
from clgym.registry import find, load_class
from clgym.strategy import Batch, Strategy, TrainBatch
from factories import stream_info

FAMILY = ("adam_",)


def vit_of(golden: Any, name: str) -> Any:
    return load(Frozen(name, int(golden["vit_config"][0]), "stretch")).model


def close(found: Tensor, wanted: np.ndarray, share: float = 1e-4) -> None:
    np.testing.assert_allclose(found.detach().numpy(), wanted, atol=share * np.abs(wanted).max())


def fill(module: nn.Module, values: dict[str, np.ndarray], name: Any) -> None:
    state = {name(key): torch.from_numpy(value) for key, value in values.items()}
    module.load_state_dict(state, strict=True)


def adapter_key(key: str) -> str:
    _, block, _, layer, kind = key.split(".")
    return f"{layer.removesuffix('_proj')}.{block}.{kind}"


def ssf_key(key: str) -> str:
    *site, kind = key.split(".")
    sites = {"after_patch_proj": "patch_embed", "after_final_norm": "norm"}
    if site[0] == "blocks":
        name = {"after_attn_proj": "proj"}.get(site[2], site[2].removeprefix("after_"))
        return f"{kind}.{site[1]}_{name}"
    return f"{kind}.{sites[site[0]]}"


@pytest.mark.golden("adam_cosine*")
def test_cosine_head(golden) -> None:
    features, weight = (torch.from_numpy(golden[k]) for k in ("features", "weight"))
    head = CosineHead(features.shape[1], len(weight))
    assert head.weight.abs().max().item() <= golden["init_abs_max_bound"]
    assert head.scale.item() == golden["sigma_1"]
    with torch.no_grad():
        head.weight.copy_(weight)
    close(head(features), golden["logits_1"])
    close(cosine_logits(features, weight), golden["logits_1"])
    with torch.no_grad():
        head.scale.fill_(float(golden["sigma_2"]))
    logits = head(features)
    close(logits, golden["logits_2"])
    logits.square().sum().backward()
    assert head.weight.grad is not None
    assert head.scale.grad is not None
    close(head.weight.grad, golden["grad_weight_of_sum_sq_logits_2"])
    close(head.scale.grad, golden["grad_sigma_of_sum_sq_logits_2"])


@pytest.mark.golden("adam_adapter*")
def test_adapter(golden, backbone_name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peft, "SCALE", golden.number("adapter_scale", peft.SCALE))
    vit, x = vit_of(golden, backbone_name(golden)), torch.from_numpy(golden["x"])
    state = golden.group("adapter_state.")
    part = peft.Adapters(vit, len(state["blocks.0.adapter.down_proj.bias"])).eval()
    close(vit(x), golden["features_without_adapters"])
    with part.on(vit):  # Up is zero: nothing changes yet
        close(vit(x), golden["features_without_adapters"])
    fill(part, state, adapter_key)
    outs: list[Tensor] = []
    with part.on(vit):
        for block in vit.blocks:
            block.register_forward_hook(lambda m, a, out: outs.append(out))
        close(vit(x), golden["features"])
    for i, out in enumerate(outs):
        close(out, golden[f"block_out_{i}"])
    close(part.change(0, torch.from_numpy(golden["module_in"])), golden["module_out_no_residual"])
    bank = peft.AdapterBank()
    bank.add(part)
    with bank.on(vit, torch.zeros(len(x), dtype=torch.long)):
        close(vit(x), golden["features"])
    close(vit(x), golden["features_without_adapters"])  # it is off again


@pytest.mark.golden("adam_ssf*")
def test_scale_and_shift(golden, backbone_name: Any) -> None:
    vit, x = vit_of(golden, backbone_name(golden)), torch.from_numpy(golden["x"])
    part = peft.ScaleShift(vit)
    fill(part, golden.group("ssf."), ssf_key)
    close(vit(x), golden["features_without_ssf"])
    with part.on(vit):
        close(vit(x), golden["features"])


@pytest.mark.golden("adam_vpt_*")
def test_prompts(golden, backbone_name: Any) -> None:
    vit, x = vit_of(golden, backbone_name(golden)), torch.from_numpy(golden["x"])
    prompts = torch.from_numpy(golden["prompts"])
    kind = peft.DeepPrompts if "deep" in golden.name else peft.ShallowPrompts
    part = kind(vit, prompts.shape[1])
    close(vit(x), golden["features_without_prompts"])
    with part.on(vit):
        close(vit(x), golden["features_with_zero_prompts"])
    fill(part, {"tokens": golden["prompts"]}, str)
    with part.on(vit):
        close(vit.forward_features(x), golden["tokens_after_final_norm"])
        close(vit(x), golden["features"])


class Given:
    """An experience whose batches are the file's: three to train on, all prototypes at once."""

    single_pass, task = False, None

    def __init__(self, golden: Any, session: int) -> None:
        self.index, size = session, int(golden["classes_per_session"])
        self.columns = size * (session + 1)
        tensors = {k: torch.from_numpy(v) for k, v in golden.items() if v.dtype.kind in "fi"}
        self.proto = TrainBatch(tensors[f"proto_x_{session}"], tensors[f"proto_y_{session}"])
        count = golden.count("train_x_")
        self.given = [
            TrainBatch(tensors[f"train_x_{i}"], tensors[f"train_y_{i}"]) for i in range(count)
        ]
        self.losses: list[float] = []

    def __len__(self) -> int:
        return sum(map(len, self.given))

    def steps(self, size: int) -> int:
        return len(self.given)

    def batches(self, size: int, *, shuffle: bool = True, **_: Any) -> Iterator[TrainBatch]:
        yield from self.given if shuffle else [self.proto]

    @property
    def loss(self) -> float:
        """Of the last step, as a strategy sets it."""
        return self.losses[-1]

    @loss.setter
    def loss(self, loss: Tensor) -> None:
        self.losses.append(float(loss))

    def report(self, **event: Any) -> None:
        if "loss" in event:
            self.losses.append(event["loss"])

    def safe_point(self) -> None: ...


def make(name: str, x: Tensor, total: int, config: dict[str, Any]) -> Any:
    cls = load_class(find("strategies", name), Strategy)
    strategy = cls(cls.Config(**config))
    strategy.setup(stream_info(tuple(x.shape[1:]), total_columns=total))
    return strategy


def moved(found: Tensor, wanted: np.ndarray, initial: Tensor) -> None:
    """Within a thousandth of the greatest movement."""
    atol = 1e-3 * np.abs(wanted - initial.numpy()).max()
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=0, atol=atol)


RENAME = {"adapter": adapter_key, "ssf": lambda key: ssf_key(key.removeprefix("ssf."))}


@pytest.mark.golden("adam_session_[!i]*")
def test_sessions(golden, backbone_name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, variant = golden.sibling("adam_session_inputs"), golden.name.split("_", 2)[2]
    monkeypatch.setattr(peft, "SCALE", golden.number("adapter_scale", peft.SCALE))
    vit, side = backbone_name(inputs), int(inputs["vit_config"][0])
    config: dict[str, Any] = {"backbone": vit, "image_size": side, "fit": "stretch"}
    x = torch.from_numpy(inputs["x_test"])
    sessions = golden.count("test_pred_after_session_")
    total = sessions * int(inputs["classes_per_session"])
    if variant == "simplecil":
        strategy = make("simplecil", x, total, config)
    else:
        strategy = trained_like(golden, variant.replace("_", "-"), config, x, total)
    for session in range(sessions):
        experience = Given(inputs, session)
        before = parameters_of(strategy)
        strategy.train(experience)
        if session == 0 and variant != "simplecil":
            np.testing.assert_allclose(experience.losses, golden["losses"], rtol=1e-4)
            compare_trained(golden, strategy, variant, before)
        means = strategy.classes.means.float()
        close(means, golden[f"proto_weights_after_session_{session}"])
        with torch.no_grad():
            logits = strategy.predict(Batch(x))
        close(logits, golden[f"test_logits_after_session_{session}"])
        wanted = golden[f"test_pred_after_session_{session}"]
        np.testing.assert_array_equal(logits.argmax(1).numpy(), wanted)


def parameters_of(strategy: Any) -> dict[str, Tensor]:
    module = getattr(strategy, "module", nn.Identity())
    return {k: v.clone() for k, v in module.state_dict().items()}


def trained_like(golden: Any, variant: str, config: dict[str, Any], x: Tensor, total: int) -> Any:
    assert golden.number("min_lr", 0.0) == 0  # our cosine, like the authors' settings, ends at 0
    config |= {"variant": variant, "dropout": 0.0}
    config |= {k: float(golden[k]) for k in ("lr", "momentum", "weight_decay")}
    config["epochs"] = int(golden["epochs"])
    initial = golden.group("initial.")
    if variant == "adapter":
        config["rank"] = len(initial["blocks.0.adapter.down_proj.weight"])
    if variant.startswith("vpt"):
        config["prompts"] = initial["Prompt_Tokens"].shape[1]
    strategy = make("adam", x, total, config)  # the alias of aper
    if initial:
        rename = RENAME.get(variant, lambda key: "tokens")
        fill(strategy.module, initial, rename)
    rows, width = golden["fc_initial"].shape
    strategy.head = CosineHead(width, rows)
    scale = golden["sigma_initial"].reshape(1)
    fill(strategy.head, {"weight": golden["fc_initial"], "scale": scale}, str)
    strategy.trained_head = strategy.head
    return strategy


def compare_trained(golden: Any, strategy: Any, variant: str, before: dict[str, Tensor]) -> None:
    head = strategy.trained_head
    moved(head.weight, golden["fc_after_training"], torch.from_numpy(golden["fc_initial"]))
    moved(head.scale, golden["sigma_after_training"], torch.tensor(float(golden["sigma_initial"])))
    rename = RENAME.get(variant, lambda key: "tokens" if variant != "finetune" else key)
    state = strategy.module.state_dict()
    for key, wanted in golden.group("trained.").items():
        moved(state[rename(key)], wanted, before[rename(key)])


@pytest.mark.golden("adam_session_inputs*")
def test_inputs_go_with_sessions(golden) -> None:
    assert list(golden.path.parent.glob("adam_session_*adapter*.npz"))


@pytest.mark.parametrize("seed", range(3))
def test_files_of_other_sizes(
    seed: int, oracles: Any, written: Any, backbone_name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    test_cosine_head(written("adam_cosine", **oracles.cosine_head(rng)))
    adapter = written("adam_adapter", **oracles.adapter(rng))
    test_adapter(adapter, backbone_name, monkeypatch)
    inputs, session = oracles.simplecil(rng)
    written("adam_session_inputs", **inputs)
    test_sessions(written("adam_session_simplecil", **session), backbone_name, monkeypatch)
