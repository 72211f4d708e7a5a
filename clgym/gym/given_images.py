"""Images without labels of a source outside the stream, for a strategy that an option tells it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clgym.data import withheld
from clgym.data.content import among
from clgym.data.digests import image_hashes, rows_a_chunk
from clgym.data.sources import Source, load_source
from clgym.draws import sequence
from clgym.errors import BadConfig, Incompatible
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
        BadConfig: Fewer than one image is asked for.
        Incompatible: The source holds images of the stream, or colours where the stream has none.
        Withheld: The source, or a part of it, is closed in the present phase of a study.
        MissingData: Its files are missing.
    """
    wanted = needs.images
    if wanted is None:
        return None
    if wanted.count < 1:
        raise BadConfig(
            expected=f"at least one image of {wanted.source}",
            found=str(wanted.count),
            fix="Give the option that states their number another value",
        )
    withheld.check_classes([wanted.source], None)
    withheld.check_half([wanted.source], "all")
    source = load_source(wanted.source, request.data_root, plugins=request.plugins)
    _check_apart(source, shown, channels)
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
        images=_in_channels(images, channels),
    )


def _check_apart(source: Source, shown: list[Source], channels: int) -> None:
    """Refuse a source that shares an image with the stream's, whose other data are withheld."""
    for other in shown:
        pairs = (source, "train"), (other, "train"), (other, "test")
        mine, *theirs = (_hashes(*pair, like=(source, other), channels=channels) for pair in pairs)
        if shared := int(among(mine, np.concatenate(theirs)).sum()):
            raise Incompatible(
                expected=f"a source without images of {other.name}, which the stream shows",
                found=f"{source.name}, which has {shared} of them",
                fix="Name another source; of the stream's own images a strategy gets only those "
                "that are due",
            )


def _hashes(source: Source, part: str, like: tuple[Source, Source], channels: int) -> np.ndarray:
    """Hashes of images, uint8 [n, 32]: as stored, or as given if two sources store them apart."""
    split = source.train if part == "train" else source.test
    if len({(one.max_value, one.train.images.shape[-1]) for one in like}) == 1:
        return split.hashes
    step = rows_a_chunk((*split.images.shape[:-1], channels))
    places = np.arange(len(split.labels))
    found = [
        image_hashes(_in_channels(source.gather(part, places[start : start + step]), channels))
        for start in range(0, len(places), step)
    ]
    return np.concatenate(found) if found else split.hashes


def _in_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Repeat grey images to the channels of the stream."""
    return np.repeat(images, channels, axis=-1) if images.shape[-1] == 1 else images
