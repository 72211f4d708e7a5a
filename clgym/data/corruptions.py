"""The 15 + 4 corruptions of Hendrycks & Dietterich (ICLR 2019, arXiv 1903.12261), on any image.

Only NumPy, SciPy and Pillow are used. Draws come from NumPy's legacy generator in the order of the
published code, so that outputs can be compared: they are equal, or a few pixels differ by one grey
level. Motion blur, snow and spatter, for which the published code calls ImageMagick and OpenCV, are
portable forms of equal strength but with other pixels. Images are square; those of up to 64 pixels
get the constants of CIFAR-C, with lengths in proportion to 32 pixels, larger ones those of
ImageNet-C.
"""

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.random import RandomState
from PIL import Image

from clgym.data.corruption_rules import RULES, SCALED, SMALL
from clgym.errors import BadStream, MissingData, UnknownName, near

__all__ = ["EXTRA", "STANDARD", "Hsv", "corrupt", "corrupt_rows", "textures"]

Hsv = Literal["exact", "scaled"]
"""Method by which brightness and saturate change colours: through HSV and back as in the published
code (exact), or by scaling channels (scaled), which changes some values by one grey level."""

STANDARD = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""Names of the 15 standard corruptions, in the order of the published tables."""
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Names of the four extra corruptions, which are meant for validation."""


@cache
def _constants() -> dict[str, dict[str, list]]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text())


def corrupt(
    image: np.ndarray,
    name: str,
    severity: int,
    generator: RandomState,
    frost: Sequence[np.ndarray] = (),
    hsv: Hsv = "exact",
) -> np.ndarray:
    """Corrupt one image.

    Args:
        image: uint8 [S, S, 3] or [S, S, 1]; grey images are corrupted as colour images and made
            grey again.
        name: One of `STANDARD` or `EXTRA`.
        severity: 1 to 5.
        generator: Generator of the draws.
        frost: Texture photographs, uint8 [h, w, 3], for ``frost`` only.
        hsv: See `Hsv`.

    Returns:
        uint8, shaped as ``image``.

    Raises:
        UnknownName: There is no such corruption.
        BadStream: There is no such severity, or the image is not square.
        MissingData: The corruption is ``frost``, and there are no textures.
    """
    check(name, severity)
    if image.shape[0] != image.shape[1]:
        raise BadStream(
            expected="square images to corrupt",
            found=f"{image.shape[0]} x {image.shape[1]} pixels",
            fix="Use a source of square images",
        )
    if name == "frost" and not frost:
        textures(None)
    side, grey = image.shape[0], image.shape[2] == 1
    colour = np.repeat(image, 3, axis=2) if grey else image
    rules = RULES if hsv == "exact" else {**RULES, **SCALED}
    made = rules[name](colour, _constant(name, severity, side), generator, frost)
    if grey:
        made = np.rint(made.mean(axis=2, keepdims=True)).astype(np.uint8)
    return made


def check(name: str, severity: int) -> None:
    """Refuse an unknown corruption or severity; see `corrupt`."""
    if name not in RULES:
        raise UnknownName(
            expected="a corruption",
            found=repr(name),
            fix=f"{near(name, RULES)}They are {', '.join(RULES)}",
        )
    if severity not in range(1, 6):
        raise BadStream(
            expected="a severity from 1 to 5",
            found=str(severity),
            fix="Give --severity another value",
        )


def corrupt_rows(
    images: np.ndarray,
    rows: np.ndarray,
    name: str,
    severity: int,
    seed: int,
    frost: Sequence[np.ndarray] = (),
    hsv: Hsv = "exact",
) -> np.ndarray:
    """Corrupt images one by one, each with its own draws; uint8, shaped as ``images``.

    Args:
        images: uint8 [n, S, S, C].
        rows: int64 [n]; a row's draws depend on (seed, corruption, severity, row) alone, so neither
            order nor the number of workers changes a pixel.
        name: See `corrupt`.
        severity: See `corrupt`.
        seed: Seed of the whole set.
        frost: See `corrupt`.
        hsv: See `corrupt`.
    """
    number = list(RULES).index(name)
    made = np.empty_like(images)
    for i, row in enumerate(rows):
        key = np.random.SeedSequence([seed, number, severity, int(row)]).generate_state(4)
        made[i] = corrupt(images[i], name, severity, RandomState(key), frost, hsv)
    return made


def textures(folder: Path | None) -> list[np.ndarray]:
    """The five frost photographs, uint8 [h, w, 3]: frost1.png to 3, frost4.jpg and 5.

    Raises:
        MissingData: At least one of them is not in ``folder``.
    """
    names = ["frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg"]
    missing = names if folder is None else [n for n in names if not (folder / n).is_file()]
    if folder is None or missing:
        raise MissingData(
            expected="the texture photographs of frost in the data root's frost/ folder",
            found=f"no {missing[0]}",
            fix="Put the files of hendrycks/robustness there, or give --corruptions no-frost",
        )
    return [np.asarray(Image.open(folder / name).convert("RGB")) for name in names]


_LENGTHS = {
    "defocus_blur": (0,),
    "glass_blur": (0,),
    "motion_blur": (0, 1),
    "snow": (4, 5),
    "spatter": (2,),
    "gaussian_blur": (0,),
    "elastic_transform": (0, 1, 2),
}
"""Constants of each corruption that are lengths in pixels."""


def _constant(name: str, severity: int, side: int) -> list[float]:
    """The constants of a severity; lengths are in pixels of an image of this side."""
    small = side <= SMALL
    value = _constants()["small" if small else "large"][name][severity - 1]
    values = list(value) if isinstance(value, list) else [value]
    if small:
        unit = side if name == "elastic_transform" else side / 32
        for place in _LENGTHS.get(name, ()):
            values[place] *= unit
    return values
