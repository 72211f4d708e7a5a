"""Convolutional backbones whose maps can be read stage by stage, and that can be cut in two."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

__all__ = ["GlobalMean", "StagedNetwork", "TwoConvolutions", "init_by_fan_out"]


class GlobalMean(nn.Module):
    """Averages maps [n, c, h, w] over all places to features [n, c]."""

    def forward(self, maps: Tensor) -> Tensor:
        """Features [n, c]."""
        return maps.mean((2, 3))


class StagedNetwork(nn.Module):
    """Layers that are applied one after the other; some of them end a stage.

    Attributes:
        width: Number of features: channels of the last map.
        stages: Names of the layers that end a stage, in order; the last layer is one of them.
    """

    def __init__(self, layers: Mapping[str, nn.Module], stages: Sequence[str], width: int) -> None:
        """Chain the layers.

        Args:
            layers: Layers by name, in order; parameters get these names.
            stages: Names of the layers that end a stage.
            width: Number of channels of the last map.
        """
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.stages, self.width = tuple(stages), width

    def forward(self, images: Tensor) -> Tensor:
        """Features [n, width] of normalised images [n, C, H, W]."""
        for layer in self.children():
            images = layer(images)
        return images.mean((2, 3))

    def maps(self, images: Tensor) -> list[Tensor]:
        """Maps [n, c, h, w] after each stage; the features are the means of the last one."""
        maps = []
        for name, layer in self.named_children():
            images = layer(images)
            if name in self.stages:
                maps.append(images)
        return maps

    def split(self) -> tuple[nn.Sequential, nn.Sequential]:
        """The same layers as two modules, cut before the last stage (MEMO).

        Returns:
            One module from images to the map of the second-last stage, and one from that map to
            features [n, width]. The parameters keep their names.
        """
        layers = list(self.named_children())
        cut = 1 + [name for name, _ in layers].index(self.stages[-2])
        upper = [*layers[cut:], ("pool", GlobalMean())]
        return nn.Sequential(OrderedDict(layers[:cut])), nn.Sequential(OrderedDict(upper))


class TwoConvolutions(StagedNetwork):
    """Two 3x3 convolutions with batch normalisation, the second of stride 2, for tiny images.

    Weights have PyTorch's default initialisation.
    """

    def __init__(
        self, channels: int = 3, widths: tuple[int, int] = (16, 32), *, last_relu: bool = True
    ) -> None:
        """Build the network.

        Args:
            channels: Number of channels of the images.
            widths: Number of channels after the first and the second convolution.
            last_relu: Whether the last map is rectified; PODNet's is not.
        """
        first, second = widths
        layers: dict[str, nn.Module] = {
            "conv1": nn.Conv2d(channels, first, 3, 1, 1, bias=False),
            "bn1": nn.BatchNorm2d(first),
            "relu1": nn.ReLU(),
            "conv2": nn.Conv2d(first, second, 3, 2, 1, bias=False),
            "bn2": nn.BatchNorm2d(second),
        }
        if last_relu:
            layers["relu2"] = nn.ReLU()
        super().__init__(layers, ("relu1", "relu2" if last_relu else "bn2"), second)


def init_by_fan_out(network: nn.Module) -> None:
    """Draw the weights of all convolutions from N(0, 2 / (k k out)), k the side of the kernel."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
