"""One small member of every family of timm and torchvision, with random weights.

What clgym makes of it is compared with what the library's own functions make, to the last bits.
"""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import _registry as registry
from torch import Tensor, nn
from torchvision import models

from clgym.errors import Incompatible
from clgym.models import timm_networks, torchvision_networks
from clgym.models.backbones import Frozen, load
from clgym.models.names import parse
from clgym.models.timm_networks import BeforeHead
from clgym.models.weight_files import WeightFile

pytestmark = pytest.mark.slow

LAST_BITS: Any = {"rtol": 0, "atol": 1e-5}
"""Twins and DaViT differ in last bits from call to call."""

VIT = "[depth=1,embed_dim=64,num_heads=2]"
TIMM = {
    "beit": (f"beit_base_patch16_224{VIT}", 224),
    "byoanet": ("halonet_h1", 256),
    "byobnet": ("test_byobnet", 32),
    "cait": ("cait_xxs24_224", 224),
    "coat": ("coat_tiny", 224),
    "convit": ("convit_tiny", 224),
    "convmixer": ("convmixer_768_32", 32),
    "convnext": ("test_convnext", 32),
    "cpubone": ("cpubone_nano", 32),
    "crossvit": ("crossvit_tiny_240", 240),
    "csatv2": ("csatv2", 64),
    "cspnet": ("cs3darknet_focus_s", 32),
    "cspnext": ("cspnext_tiny", 32),
    "davit": ("davit_tiny", 32),
    "deepseek_vit": (f"deepseek_vit_412m{VIT}", 224),
    "deit": ("deit_tiny_patch16_224", 224),
    "densenet": ("densenet121", 32),
    "dla": ("dla46x_c", 32),
    "dpn": ("dpn48b", 32),
    "edgenext": ("edgenext_xx_small", 32),
    "efficientformer": ("efficientformer_l1", 224),
    "efficientformer_v2": ("efficientformerv2_s0", 224),
    "efficientnet": ("test_efficientnet", 32),
    "efficientvim": ("efficientvim_m1", 32),
    "efficientvit_mit": ("efficientvit_b0", 32),
    "efficientvit_msra": ("efficientvit_m0", 224),
    "eva": ("vit_tiny_patch16_dinov3_qkvb", 256),
    "fasternet": ("fasternet_t0", 32),
    "fastvit": ("fastvit_t8", 32),
    "focalnet": ("focalnet_tiny_srf", 32),
    "gcvit": ("gcvit_xxtiny", 224),
    "gemma4_vit": (f"gemma4_vit_167m{VIT}", 32),
    "ghostnet": ("ghostnet_050", 32),
    "hardcorenas": ("hardcorenas_b", 32),
    "hgnet": ("hgnetv2_b0", 32),
    "hiera": ("hiera_tiny_224", 224),
    "hieradet_sam2": ("sam2_hiera_tiny", 32),
    "hrnet": ("hrnet_w18_small", 32),
    "iformer": ("iformer_t", 32),
    "inception_next": ("inception_next_atto", 32),
    "inception_resnet_v2": ("inception_resnet_v2", 96),
    "inception_v3": ("inception_v3", 96),
    "inception_v4": ("inception_v4", 96),
    "lcnetv2": ("lcnetv2_small", 32),
    "levit": ("levit_128s", 224),
    "lowformer": ("lowformer_b0", 32),
    "mambaout": ("test_mambaout", 32),
    "maxxvit": ("test_coatnet", 160),
    "metaformer": ("poolformerv2_s12", 32),
    "mlp_mixer": ("gmlp_ti16_224", 224),
    "mobilenetv3": ("mobilenetv3_small_050", 32),
    "mobilenetv5": ("mobilenetv5_base", 32),
    "mobilevit": ("mobilevit_xxs", 32),
    "mvitv2": ("mvitv2_tiny", 224),
    "naflexvit": (f"naflexvit_base_patch16_gap{VIT}", 32),
    "nasnet": ("nasnetalarge", 32),
    "nest": ("nest_tiny", 224),
    "nextvit": ("nextvit_small", 32),
    "nfnet": ("test_nfnet", 32),
    "pit": ("pit_ti_224", 224),
    "pnasnet": ("pnasnet5large", 32),
    "pvt_v2": ("pvt_v2_b0", 32),
    "qwen3_vit": (f"qwen3_vit_88m{VIT}", 32),
    "rdnet": ("rdnet_tiny", 32),
    "regnet": ("regnetx_002", 32),
    "repghost": ("repghostnet_050", 32),
    "repvit": ("repvit_m1", 32),
    "res2net": ("res2next50", 32),
    "resnest": ("resnest14d", 32),
    "resnet": ("test_resnet", 32),
    "resnetv2": ("resnetv2_18", 32),
    "rexnet": ("rexnet_100", 32),
    "selecsls": ("selecsls42", 32),
    "senet": ("legacy_seresnet18", 32),
    "sequencer": ("sequencer2d_s", 224),
    "shvit": ("shvit_s1", 32),
    "sknet": ("skresnet18", 32),
    "starnet": ("starnet_s050", 32),
    "swiftformer": ("swiftformer_xs", 224),
    "swin_transformer": ("swin_tiny_patch4_window7_224", 224),
    "swin_transformer_v2": ("swinv2_tiny_window8_256", 256),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224", 224),
    "tiny_vit": ("tiny_vit_5m_224", 32),
    "tnt": ("tnt_s_legacy_patch16_224", 224),
    "tresnet": ("tresnet_m", 32),
    "twins": ("twins_svt_small", 224),
    "vgg": ("vgg11", 32),
    "visformer": ("visformer_tiny", 224),
    "vision_transformer": ("test_vit", 160),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", 224),
    "vision_transformer_relpos": ("test_vit_relpos", 160),
    "vision_transformer_sam": (f"samvit_base_patch16_224{VIT}", 224),
    "vitamin": ("vitamin_small_224", 224),
    "volo": ("volo_d1_224", 224),
    "vovnet": ("ese_vovnet19b_slim_dw", 32),
    "xception": ("legacy_xception", 32),
    "xception_aligned": ("xception41p", 32),
    "xcit": ("xcit_nano_12_p8_224", 224),
}
"""By module of timm: a small member, and a side of images that it takes."""

NOT_LINEAR = ("volo",)
"""Families whose logits are no linear function of one feature vector: no classifiers here."""

TORCHVISION = {
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_s": 32,
    "googlenet[transform_input=False]": 32,
    "inception_v3[transform_input=False]": 96,
    "maxvit_t": 224,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_x_400mf": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "resnext50_32x4d": 32,
    "shufflenet_v2_x0_5": 32,
    "swin_t": 64,
    "swin_v2_t": 64,
    "vgg11": 32,
    "vit_b_32": 224,
    "wide_resnet50_2": 32,
}


def test_every_family_of_timm_is_tested():
    modules = {registry._model_to_module[name] for name in timm.list_models()}
    assert modules == set(TIMM)
    builders = {name: models.get_model_builder(name) for name in models.list_models(models)}
    tried = {builders[name.partition("[")[0]].__module__ for name in TORCHVISION}
    assert {b.__module__ for b in builders.values()} == tried | {"torchvision.models.squeezenet"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLGYM_CACHE", str(tmp_path))


def peer(name: str, classes: int) -> Any:
    """Timm's own network, with weights drawn as ``@random`` promises."""
    parsed = parse(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(parsed.architecture, num_classes=classes, **parsed.arguments)
    return network.eval().requires_grad_(False)  # some kernels round otherwise with gradients


@torch.no_grad()
@pytest.mark.parametrize("family", TIMM)
def test_features_are_timms(family):
    name, side = TIMM[family]
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    frozen = Frozen(f"{name}@random", side, "stretch")
    backbone = load(frozen)
    network = peer(name, 0)
    wanted = network.forward_head(network.forward_features(images), pre_logits=True)
    features = backbone(images)
    torch.testing.assert_close(features, network(images), **LAST_BITS)
    torch.testing.assert_close(features, wanted, **LAST_BITS)
    assert backbone.width == features.shape[1]
    assert features.shape[0] == 2
    assert features.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("family", TIMM)
def test_a_file_with_a_head_makes_timms_logits(family):
    name, side = TIMM[family]
    network = peer(name, 5)
    file = WeightFile(Path("own.safetensors"), dict(network.state_dict()))
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    held, full, assumed = timm_networks.with_head(parse(f"{name}@own"), file)
    assert full.bare == parse(name).bare
    assert assumed
    before = BeforeHead(held.eval())
    weight, bias = before.linear()
    logits = network(images)
    torch.testing.assert_close(held(images), logits, **LAST_BITS)
    features = before(images)
    if family in NOT_LINEAR:
        assert features.shape[1] != weight.shape[1]
    else:
        ours, scale = features @ weight.T + bias, float(logits.abs().max())
        torch.testing.assert_close(ours, logits, rtol=1e-4, atol=1e-5 * scale)


@torch.no_grad()
@pytest.mark.parametrize("name", TORCHVISION)
def test_a_file_makes_torchvisions_logits_in_any_order_of_its_keys(name):
    parsed = parse(name)
    torch.manual_seed(0)
    network: Any = models.get_model(parsed.architecture, num_classes=5, **parsed.arguments).eval()
    side = TORCHVISION[name]
    images = torch.rand(2, 3, side, side)
    wanted: Tensor = network(images)
    state = network.state_dict()
    for keys in (list(state), sorted(state), sorted(state, reverse=True)):
        file = WeightFile(Path("own.pth"), {key: state[key] for key in keys})
        body, weight, bias, scale = torchvision_networks.with_head(parsed, file)
        ours = nn.functional.linear(body.eval()(images), weight, bias)
        torch.testing.assert_close(ours, wanted, rtol=0, atol=0)
    told = next(iter(models.get_model_weights(parsed.architecture))).transforms()
    assert scale == (tuple(told.mean), tuple(told.std))


def test_squeezenet_is_refused_with_the_reason():
    network = models.get_model("squeezenet1_1", num_classes=5)
    file = WeightFile(Path("own.pth"), dict(network.state_dict()))
    with pytest.raises(Incompatible, match="rectifies and pools"):
        torchvision_networks.with_head(parse("squeezenet1_1"), file)
