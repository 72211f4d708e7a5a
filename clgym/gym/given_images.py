"""Images without labels of a source outside the stream, for a strategy that an option tells it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clgym.data import withheld
from clgym.data.content import among
from clgym.data.sources import Source, load_source
from clgym.draws import sequence
from clgym.errors import Incompatible
from clgym.messages import Needs

if TYPE_CHECKING:
    from clgym.gym.request import Request

__all__ = ["GivenImages", "given_images"]


@dataclass(frozen=True, eq=False)
class GivenImages:
    """Training images of a source, drawn by the run's seed."""

    source: str
    fingerprint: str
    images: np.ndarray
    """uint8 [n, H, W, C] on the scale 0 to 255, with the channels of the stream."""

    def facts(self) -> dict[str, object]:
        """Block of the record."""
        return {
            "source": self.source,
            "fingerprint": self.fingerprint,
            "count": len(self.images),
        }


def given_images(
    needs: Needs, shown: list[Source], channels: int, request: "Request"
) -> GivenImages | None:
    """The images that a strategy has declared to need; None if it needs none.

    Args:
        needs: Needs of the strategy.
        shown: Sources of the stream.
        channels: Channels of the stream's images.
        request: The request of the run.

    Raises:
        Incompatible: The source holds images of the stream, or colours where the stream has none.
        Withheld: The source, or a part of it, is closed in the present phase of a study.
        MissingData: Its files are missing.
    """
    wanted = needs.images
    if wanted is None:
        return None
    withheld.check_classes([wanted.source], None)
    withheld.check_half([wanted.source], "all")
    source = load_source(wanted.source, request.data_root, plugins=request.plugins)
    _check_apart(source, shown)
    draw = np.random.Generator(np.random.PCG64(sequence(request.seed, "gym", "given images")))
    rows = np.sort(draw.permutation(len(source.train.labels))[: wanted.count])
    images = source.gather("train", rows)
    if images.shape[-1] not in (1, channels):
        raise Incompatible(
            expected=f"images of {source.name} with the channels of the stream ({channels})",
            found=f"images with {images.shape[-1]}",
            fix="Name another source",
        )
    return GivenImages(
        source=source.name,
        fingerprint=source.fingerprint,
        images=np.repeat(images, channels // images.shape[-1], axis=-1),
    )


def _check_apart(source: Source, shown: list[Source]) -> None:
    """Refuse a source that shares an image with the stream's, whose other data are withheld."""
    for other in shown:
        held = np.concatenate([other.train.hashes, other.test.hashes])
        shared = int(among(source.train.hashes, held).sum())
        if shared:
            raise Incompatible(
                expected=f"a source without images of {other.name}, which the stream shows",
                found=f"{source.name}, which has {shared} of them",
                fix="Name another source; of the stream's own images a strategy gets only those "
                "that are due",
            )
