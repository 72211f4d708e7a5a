"""The functions that corrupt an image, one per corruption, with their building blocks.

The order of draws and the roundings are those of the published code (hendrycks/robustness), so that
outputs can be compared; see `clgym.data.corruptions`, which calls these.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import RandomState
from PIL import Image
from scipy import ndimage

__all__ = ["RULES", "SCALED", "SMALL", "clipped_zoom", "disk", "plasma"]

SMALL = 64
"""Maximum side in pixels of images that count as small."""
Image8 = np.ndarray
"""uint8 [S, S, 3]."""
Constants = list[float]
Frost = Sequence[np.ndarray]


def _stored(image: np.ndarray) -> np.ndarray:
    """Image in [0, 1] as uint8, cut off rather than rounded, as the published files were made."""
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def _blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of each channel, edges repeated."""
    return np.asarray(ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest", truncate=4))


def disk(radius: float, smoothing: float) -> np.ndarray:
    """Kernel of a lens out of focus, float32 [17, 17] or wider."""
    reach, half = (8, 1) if radius <= 8 else (int(np.ceil(radius)), 2)
    line = np.arange(-reach, reach + 1)
    flat = np.array(line[:, None] ** 2 + line**2 <= radius**2, dtype=np.float32)
    flat /= flat.sum()
    bell = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * smoothing**2))
    bell /= bell.sum()
    smooth = np.outer(bell, bell).astype(np.float32)
    return np.asarray(ndimage.correlate(flat, smooth, mode="mirror"))


def clipped_zoom(image: np.ndarray, factor: float) -> np.ndarray:
    """Magnify the centre: [S, S, C] or [S, S] to the same shape, linear."""
    side = image.shape[0]
    crop = int(np.ceil(side / factor))
    top = (side - crop) // 2
    cut = image[top : top + crop, top : top + crop]
    wide = np.asarray(ndimage.zoom(cut, (factor, factor, 1)[: image.ndim], order=1))
    top = (wide.shape[0] - side) // 2
    return wide[top : top + side, top : top + side]


def plasma(side: int, decay: float, generator: RandomState) -> np.ndarray:
    """Fractal clouds in [0, 1], float64 [side, side], by diamonds and squares that wrap around.

    Args:
        side: A power of two.
        decay: What the jitter is divided by when the step is halved.
        generator: Generator from which each sub-step draws one array of uniform numbers.
    """
    clouds = np.zeros((side, side))
    step, jitter = side, 100.0

    def shaken(corners: np.ndarray) -> np.ndarray:
        # The published code multiplies twice, so the amplitude is the jitter squared.
        return corners / 4 + jitter * generator.uniform(-jitter, jitter, corners.shape)

    while step >= 2:
        half = step // 2
        corner = clouds[::step, ::step]
        total = corner + np.roll(corner, -1, 0)
        clouds[half::step, half::step] = shaken(total + np.roll(total, -1, 1))
        centre = clouds[half::step, half::step]
        beside = corner + np.roll(corner, -1, 1)
        clouds[::step, half::step] = shaken(centre + np.roll(centre, 1, 0) + beside)
        beside = corner + np.roll(corner, -1, 0)
        clouds[half::step, ::step] = shaken(centre + np.roll(centre, 1, 1) + beside)
        step, jitter = half, jitter / decay
    clouds -= clouds.min()
    return clouds / clouds.max()


def _motion(image: np.ndarray, radius: float, sigma: float, degrees: float) -> np.ndarray:
    """Smear to one side along an angle: a one-sided Gaussian of shifted copies, edges repeated."""
    side, angle = image.shape[0], np.deg2rad(degrees)
    weights = np.exp(-(np.arange(2 * int(np.ceil(radius)) + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    places, smeared = np.arange(side), np.zeros(image.shape)
    for i, weight in enumerate(weights):
        down = -int(np.ceil(i * np.sin(angle) - 0.5))
        right = -int(np.ceil(i * np.cos(angle) - 0.5))
        if max(abs(down), abs(right)) >= side:
            break
        rows, columns = np.clip(places - down, 0, side - 1), np.clip(places - right, 0, side - 1)
        smeared += weight * image[rows][:, columns]
    return smeared


def _shade(image: np.ndarray) -> np.ndarray:
    """Luminance, [S, S]."""
    return image @ np.array([0.299, 0.587, 0.114])


def _hue_saturation_value(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """H, S and V in [0, 1], float64 [S, S] each, of an image [S, S, 3] in [0, 1]."""
    red, green, blue = np.moveaxis(x, 2, 0)
    value = x.max(axis=2)
    spread = value - x.min(axis=2)
    grey = spread == 0
    width = np.where(grey, 1, spread)
    sector = np.select(
        [blue == value, green == value],
        [4 + (red - green) / width, 2 + (blue - red) / width],
        (green - blue) / width,
    )
    saturation = np.divide(spread, value, out=np.zeros_like(value), where=~grey)
    return np.where(grey, 0, sector / 6 % 1), saturation, value


def _colour(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The image [S, S, 3] of H, S and V, in the published code's order of arithmetic."""
    sector = np.floor(hue * 6)
    part = hue * 6 - sector
    low = value * (1 - saturation)
    falling = value * (1 - part * saturation)
    rising = value * (1 - (1 - part) * saturation)
    sixths = [
        (value, rising, low),
        (falling, value, low),
        (low, value, rising),
        (low, falling, value),
        (rising, low, value),
        (value, low, falling),
    ]
    number = sector.astype(np.uint8)[:, :, None] % 6
    return np.choose(number, [np.stack(channels, axis=2) for channels in sixths])


# --- one function a corruption -------------------------------------------------------------------


def _gaussian_noise(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    return _stored(image / 255.0 + generator.normal(size=image.shape, scale=c[0]))


def _shot_noise(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    return _stored(generator.poisson(image / 255.0 * c[0]) / c[0])


def _impulse_noise(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    """Single channel elements are hit, not pixels."""
    hit = generator.uniform(size=image.shape) < c[0]
    white = generator.uniform(size=image.shape) < 0.5
    return np.where(hit, np.where(white, 255, 0), image).astype(np.uint8)


def _speckle_noise(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    x = image / 255.0
    return _stored(x + x * generator.normal(size=x.shape, scale=c[0]))


def _gaussian_blur(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    return _stored(_blurred(image / 255.0, c[0]))


def _glass_blur(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    """Pixels copied from near by, the last row and column first.

    Meant as a swap; the published code copies only, and so the published files were made.
    """
    sigma, reach, rounds = c[0], int(c[1]), int(c[2])
    side = image.shape[0]
    y = (_blurred(image / 255.0, sigma) * 255).astype(np.uint8)
    lines = np.arange(side - reach, reach, -1)
    here = (lines[:, None] * side + lines).ravel()
    index = list(range(side * side))
    for _round in range(rounds):
        shifts = generator.randint(-reach, reach, size=(len(here), 2))
        there = here + shifts[:, 1] * side + shifts[:, 0]
        for place, origin in zip(here.tolist(), there.tolist(), strict=True):
            index[place] = index[origin]
    moved = y.reshape(-1, 3)[index].reshape(y.shape)
    return _stored(_blurred(moved / 255.0, sigma))


def _defocus_blur(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    kernel = disk(c[0], c[1])[:, :, None]
    return _stored(ndimage.correlate(image / 255.0, kernel, mode="mirror"))


def _zoom_blur(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    x = (image / 255.0).astype(np.float32)
    factors = np.arange(1, c[0], c[1])
    total = np.zeros_like(x)
    for factor in factors:
        total += clipped_zoom(x, factor)
    return _stored((x + total) / (len(factors) + 1))


def _motion_blur(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    return _stored(_motion(image / 255.0, c[0], c[1], generator.uniform(-45, 45)))


def _snow(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    mean, deviation, zoom, threshold, radius, sigma, mix = c
    x = image / 255.0
    layer = generator.normal(size=x.shape[:2], loc=mean, scale=deviation)
    layer = clipped_zoom(layer, zoom)
    layer[layer < threshold] = 0
    flakes = _stored(layer) / 255.0
    flakes = _motion(flakes, radius, sigma, generator.uniform(-135, -45))[:, :, None]
    pale = np.maximum(x, _shade(x)[:, :, None] * 1.5 + 0.5)
    return _stored(mix * x + (1 - mix) * pale + flakes + np.rot90(flakes, 2))


def _frost(image: Image8, c: Constants, generator: RandomState, frost: Frost) -> Image8:
    side = image.shape[0]
    texture = frost[generator.randint(5)]
    if side <= SMALL:
        texture = texture[2::5, 2::5]
    top = generator.randint(0, texture.shape[0] - side)
    left = generator.randint(0, texture.shape[1] - side)
    cut = texture[top : top + side, left : left + side]
    return np.clip(c[0] * image + c[1] * cut, 0, 255).astype(np.uint8)


def _fog(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    x, side = image / 255.0, image.shape[0]
    clouds = plasma(1 << max(side - 1, 1).bit_length(), c[1], generator)[:side, :side, None]
    top = x.max()
    return _stored((x + c[0] * clouds) * top / (top + c[0]))


def _brightness(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    """More of the V in HSV."""
    hue, saturation, value = _hue_saturation_value(image / 255.0)
    return _stored(_colour(hue, saturation, np.clip(value + c[0], 0, 1)))


def _saturate(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    """Another S in HSV."""
    hue, saturation, value = _hue_saturation_value(image / 255.0)
    return _stored(_colour(hue, np.clip(saturation * c[0] + c[1], 0, 1), value))


def _brightness_scaled(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    """All three channels in proportion: equal to the way through HSV but for rounding."""
    x = image / 255.0
    value = x.max(axis=2, keepdims=True)
    lifted = np.clip(value + c[0], 0, 1)
    share = np.divide(x, value, out=np.ones_like(x), where=value > 0)
    return _stored(lifted * share)


def _saturate_scaled(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    """Another S at the same H and V: equal to the way through HSV but for rounding."""
    x = image / 255.0
    value, low = x.max(axis=2, keepdims=True), x.min(axis=2, keepdims=True)
    old = np.divide(value - low, value, out=np.zeros_like(value), where=value > 0)
    new = np.clip(old * c[0] + c[1], 0, 1)
    # How far each channel lies below V, as a share of S; a grey pixel counts as red.
    red = np.broadcast_to([0.0, 1.0, 1.0], x.shape).copy()
    below = np.divide(value - x, value * old, out=red, where=value * old > 0)
    return _stored(value * (1 - new * below))


def _contrast(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    x = image / 255.0
    mean = x.mean(axis=(0, 1), keepdims=True)
    return _stored((x - mean) * c[0] + mean)


def _elastic_transform(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    alpha, sigma, jitter = c
    x, side = (image / 255.0).astype(np.float32), image.shape[0]
    centre, third = side // 2, side // 3
    source = np.array([[1, 1], [1, -1], [-1, -1]], dtype=np.float32) * third + centre
    target = source + generator.uniform(-jitter, jitter, size=source.shape).astype(np.float32)
    # The affine map that takes target points to source points: where to read each pixel.
    corners = np.column_stack([target, np.ones(3)])
    matrix = np.linalg.solve(corners.astype(np.float64), source.astype(np.float64))
    row, column = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    places = np.stack([column, row, np.ones_like(row)], axis=-1) @ matrix
    x = _read(x, places[..., 1], places[..., 0], "mirror")
    right, down = (
        ndimage.gaussian_filter(
            generator.uniform(-1, 1, size=(side, side)), sigma, mode="reflect", truncate=3
        )
        * alpha
        for _ in range(2)
    )
    return _stored(_read(x, row + down, column + right, "reflect"))


def _read(image: np.ndarray, row: np.ndarray, column: np.ndarray, mode: str) -> np.ndarray:
    """Bilinear values at places [S, S], every channel."""
    channels = [
        ndimage.map_coordinates(image[:, :, k], [row, column], order=1, mode=mode) for k in range(3)
    ]
    return np.stack(channels, axis=2)


def _pixelate(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    side = image.shape[0]
    few = max(1, int(side * c[0]))
    small = Image.fromarray(image).resize((few, few), Image.Resampling.BOX)
    return np.asarray(small.resize((side, side), Image.Resampling.BOX))


def _jpeg_compression(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=int(c[0]))
    return np.asarray(Image.open(file))


def _spatter(image: Image8, c: Constants, generator: RandomState, _: Frost) -> Image8:
    """Drops of water or mud. Water: a portable form of the published relief."""
    mean, deviation, sigma, threshold, strength, mud = c
    x = image / 255.0
    layer = generator.normal(size=x.shape[:2], loc=mean, scale=deviation)
    layer = ndimage.gaussian_filter(layer, sigma, mode="nearest", truncate=4)
    if mud:
        cover = ndimage.gaussian_filter((layer > threshold).astype(float), strength, mode="nearest")
        cover[cover < 0.8] = 0
        brown = np.array([63, 42, 20]) / 255.0
        return _stored(x * (1 - cover[:, :, None]) + cover[:, :, None] * brown)
    drops = np.where(layer < threshold, 0, np.clip(layer, 0, 1))
    edges = np.logical_xor(ndimage.binary_dilation(drops > 0), drops > 0)
    depth = np.minimum(np.asarray(ndimage.distance_transform_edt(~edges)), 20)
    relief = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=float)
    depth = np.clip(ndimage.correlate(ndimage.uniform_filter(depth, 3), relief), 0, None)
    water = drops * ndimage.uniform_filter(depth, 3)
    water *= strength / max(water.max(), 1e-9)
    turquoise = np.array([175, 238, 238]) / 255.0
    return _stored(x + water[:, :, None] * turquoise)


RULES: dict[str, Callable[[Image8, Constants, RandomState, Frost], Image8]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
    "speckle_noise": _speckle_noise,
    "gaussian_blur": _gaussian_blur,
    "spatter": _spatter,
    "saturate": _saturate,
}
"""Corruptions by name, as functions from (image, constants of a severity, generator, frost
textures) to the corrupted image."""

SCALED = {"brightness": _brightness_scaled, "saturate": _saturate_scaled}
"""Those rules for streams that were made before they went through HSV: one grey level off."""
