"""Source models by RobustBench's names, whose weight files are in the data root.

``robustbench:Standard`` is searched where RobustBench stores it, ``models/DATASET/corruptions/
Standard.pt`` (else in the folder of any threat model), else in ``weights/``. The models are wide
residual networks (Zagoruyko & Komodakis, BMVC 2016) with or without the normalisation of AugMix;
depth and width follow from the weights. From https://github.com/RobustBench/robustbench.
"""

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from clgym.errors import BadSource, MissingData, UnknownName, near

__all__ = ["NAMES", "WideResNet", "find_weights", "wide_resnet"]

NAMES: dict[str, float | None] = {"Standard": None, "Hendrycks2020AugMix_WRN": 0.5}
"""Known models, with the value of mean and standard deviation of their normalisation, if any."""


class _WideBlock(nn.Module):
    """Two 3 x 3 convolutions, each after normalisation and ReLU."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inside), nn.BatchNorm2d(out)
        self.conv1 = nn.Conv2d(inside, out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.convShortcut = None  # named as in the published files
        if inside != out:
            self.convShortcut = nn.Conv2d(inside, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        made = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return made + (x if self.convShortcut is None else self.convShortcut(active))


class _Stage(nn.Module):
    """Blocks one after another, under the name of the published files."""

    def __init__(self, blocks: int, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            *(_WideBlock(out if i else inside, out, 1 if i else stride) for i in range(blocks))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideResNet(nn.Module):
    """Maps images [n, 3, H, W] to features [n, 64 widen]."""

    def __init__(self, blocks: int, widen: int) -> None:
        """Three stages of ``blocks`` blocks, ``widen`` times as wide as a plain network's."""
        super().__init__()
        widths = [16, 16 * widen, 32 * widen, 64 * widen]
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.block1 = _Stage(blocks, widths[0], widths[1], 1)
        self.block2 = _Stage(blocks, widths[1], widths[2], 2)
        self.block3 = _Stage(blocks, widths[2], widths[3], 2)
        self.bn1 = nn.BatchNorm2d(widths[3])

    def forward(self, images: Tensor) -> Tensor:
        """Features, averaged over all places."""
        made = self.block3(self.block2(self.block1(self.conv1(images))))
        return F.relu(self.bn1(made)).mean((2, 3))


def find_weights(name: str, dataset: str, data_root: Path) -> Path:
    """Find the weight file of a model.

    Args:
        name: Name in RobustBench.
        dataset: ``cifar10`` or ``cifar100``.
        data_root: Folder of the data.

    Raises:
        UnknownName: clgym does not know the model.
        MissingData: The data root has no file of it.
    """
    if name not in NAMES:
        raise UnknownName(
            expected=f"a RobustBench model that clgym knows ({', '.join(NAMES)})",
            found=repr(name),
            fix=f"{near(name, NAMES)}Or give --model NETWORK@FILE",
        )
    folder = data_root / "models" / dataset
    places = [folder / "corruptions" / f"{name}.pt", *sorted(folder.glob(f"*/{name}.pt"))]
    places += [data_root / "weights" / f"{dataset}-{name}.pt"]
    for path in places:
        if path.is_file():
            return path
    raise MissingData(
        expected=f"models/{dataset}/corruptions/{name}.pt in the data root",
        found="no such file",
        fix="Download it by RobustBench (https://github.com/RobustBench/robustbench) and put it "
        "there",
    )


def wide_resnet(state: dict[str, Tensor], name: str) -> tuple[WideResNet, Tensor, Tensor]:
    """The backbone that weights belong to, and the weight and bias of their head.

    Raises:
        BadSource: The weights are not those of a wide residual network.
    """
    own = {key.removeprefix("model."): value for key, value in state.items()}
    other = ("sub_block1", "fc", "mu", "sigma")  # an unused second block, the head, and statistics
    body = {key: value for key, value in own.items() if not key.startswith(other)}
    try:
        blocks = 1 + max(int(key.split(".")[2]) for key in own if key.startswith("block1.layer."))
        backbone = WideResNet(blocks, len(own["block1.layer.0.conv1.weight"]) // 16)
        backbone.load_state_dict(body)
        return backbone, own["fc.weight"], own["fc.bias"]
    except (KeyError, ValueError, RuntimeError) as error:
        raise BadSource(
            expected=f"the weights of {name}, a wide residual network",
            found=" ".join(str(error).split())[:200],
            fix="Download the file again",
        ) from error
