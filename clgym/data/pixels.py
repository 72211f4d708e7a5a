"""Pixels of image files: one rule for every mode; files without a rule are refused.

No colour profile and no EXIF orientation is applied, as in torchvision's ImageFolder and in the
published evaluations (Pillow turns TIFF files by their own tag). `docs/data.md` states the rules
for users.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clgym.data.labelled import damaged
from clgym.data.words import counted
from clgym.errors import BadSource

__all__ = ["Files", "Survey", "decoded", "fit", "survey"]

_PLAIN = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"}
"""Image modes of eight bits per channel without alpha, which Pillow converts to RGB."""
_ALPHA = {"LA", "PA", "La", "RGBA", "RGBa"}
_DEEP = {"I", "I;16", "I;16L", "I;16B", "I;16N", "F"}
"""Image modes of grey images with more than eight bits per pixel."""
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF
_ORIENTATION, _UPRIGHT = 0x0112, 1  # EXIF


@dataclass(frozen=True, eq=False)
class Files:
    """Image files that are decoded when a slice of them is read."""

    paths: Sequence[Path]
    size: tuple[int, int]
    """Height and width; files of another size are brought to a square one by `fit`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, H, W, 3]."""
        return (len(self.paths), *self.size, 3)

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """Those images, uint8 [n, H, W, 3].

        Raises:
            BadSource: A file is no image, or its pixel values are ambiguous.
        """
        # Pillow decodes and resizes without the interpreter lock.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.stack(list(pool.map(self._decode, self.paths[rows])))

    def _decode(self, path: Path) -> np.ndarray:
        with _opened(path) as image:
            colour = _rgb(image, path)
        height, width = self.size
        if colour.size == (width, height):
            return np.asarray(colour)
        return fit(colour, height)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An image whose pixels are not decoded yet; Pillow's errors become ones that name the file."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise damaged(path, "a whole image", error) from error


def decoded(paths: Sequence[Path], side: int) -> np.ndarray:
    """Decode image files: uint8 [n, side, side, 3].

    Raises:
        BadSource: A file is no image.
    """
    return Files(paths, (side, side))[:]


def fit(image: Any, side: int) -> np.ndarray:
    """Resize the shorter side to ``side`` (bicubic) and crop the centre: uint8 [side, side, 3].

    Sizes are rounded as by torchvision's Resize and CenterCrop, which published evaluations use.
    """
    from PIL import Image

    width, height = image.size
    if (width, height) != (side, side):
        short = min(width, height)
        size = (int(side * width / short), int(side * height / short))
        left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
        image = image.resize(size, Image.Resampling.BICUBIC)
        image = image.crop((left, top, left + side, top + side))
    return np.asarray(image)


# --- modes ---------------------------------------------------------------------------------------


def _rgb(image: Any, path: Path) -> Any:
    """An image in RGB, eight bits per channel.

    Raises:
        BadSource: The mode or the values do not determine a grey value or a colour.
    """
    from PIL import Image

    if image.mode in _ALPHA or image.has_transparency_data:
        return _without_alpha(image.convert("RGBA"))
    if image.mode in _DEEP:
        grey = _deep_grey(np.asarray(image), image, path)
        return Image.fromarray(grey).convert("RGB")
    if image.mode not in _PLAIN:
        raise BadSource(
            expected=f"{path} to be grey, in colour or of a palette",
            found=f"mode {image.mode}",
            fix="Save it as RGB",
        )
    return image.convert("RGB")


def _without_alpha(image: Any) -> Any:
    """Compose an image over white; over black if white would leave one flat colour.

    Where alpha is opaque everywhere, or 0 everywhere (unused), colours do not change by a bit.
    """
    from PIL import Image

    alpha = image.getchannel("A")
    if alpha.getextrema() in ((255, 255), (0, 0)):
        return image.convert("RGB")
    over = [
        Image.alpha_composite(Image.new("RGBA", image.size, (*[grey] * 3, 255)), image)
        for grey in (255, 0)
    ]
    flat = not np.ptp(np.asarray(over[0]), axis=(0, 1)).any()
    return over[1 if flat else 0].convert("RGB")


def _deep_grey(values: np.ndarray, image: Any, path: Path) -> np.ndarray:
    """Values scaled by their range to 0..255 and rounded: uint8 [H, W]."""
    if image.mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise _unscaled(path, image, values, "from 0 to 1", "Divide the values by their range")
        grey = np.rint(values.astype(np.float64) * 255)
    else:
        top = _greatest(image)
        if values.min() < 0 or values.max() > top or 0 < values.max() <= 255:
            # Values up to 255 are eight bits in a wider file, which would become nearly black.
            fix = f"Save it with 8 bits a pixel, or with values over the range 0 to {top}"
            raise _unscaled(path, image, values, f"of 0 to {top} (above 255 somewhere)", fix)
        # Whole numbers, so that a 16-bit copy by value x 257 gives the eight bits back.
        grey = (values.astype(np.int64) * 510 + top) // (2 * top)
    inverted = _tiff_tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO
    return (255 - grey if inverted else grey).astype(np.uint8)


def _greatest(image: Any) -> int:
    """The value of white: of 16 bits, or of fewer (such as 12) where a TIFF file states them."""
    bits = _tiff_tag(image, _BITS_PER_SAMPLE)
    return 2 ** min(bits[0], 16) - 1 if bits else 65535


def _tiff_tag(image: Any, tag: int) -> Any:
    tags = getattr(image, "tag_v2", None)
    return None if tags is None else tags.get(tag)


def _unscaled(path: Path, image: Any, values: np.ndarray, span: str, fix: str) -> BadSource:
    return BadSource(
        expected=f"{path} (mode {image.mode}) to hold values {span}",
        found=f"{values.min():g} to {values.max():g}",
        fix=fix,
    )


# --- headers of files ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Survey:
    """Information in the headers of image files, before pixels are decoded."""

    sizes: tuple[tuple[int, int], ...]
    """Height and width of each file, in order."""
    several_frames: int
    """Files with more than one frame or page."""
    turned: int
    """Files whose EXIF orientation is not upright."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings about the files, in words."""
        notes = []
        if self.several_frames:
            notes.append(
                f"{counted(self.several_frames, 'file')} of several frames: the first is taken"
            )
        if self.turned:
            notes.append(
                f"{counted(self.turned, 'file')} with an EXIF orientation, which is not applied"
            )
        return tuple(notes)


def survey(paths: Sequence[Path]) -> Survey:
    """Read the headers of image files.

    Raises:
        BadSource: A file is no image.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        heads = list(pool.map(_head, paths))
    counts = Counter(key for _, *found in heads for key, is_so in enumerate(found) if is_so)
    return Survey(tuple(size for size, _, _ in heads), counts[0], counts[1])


def _head(path: Path) -> tuple[tuple[int, int], bool, bool]:
    with _opened(path) as image:
        # A camera's MPO holds its picture in the first frame, and previews behind it.
        several = getattr(image, "is_animated", False) and image.format != "MPO"
        # TIFF's is applied by Pillow; PNG may hold EXIF data behind the pixels, which costs a pass.
        rotates = image.format in ("JPEG", "MPO", "WEBP")
        turned = rotates and image.getexif().get(_ORIENTATION, _UPRIGHT) != _UPRIGHT
        return (image.height, image.width), bool(several), bool(turned)
