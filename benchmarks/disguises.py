"""Recall of the look at a pair: copies of real images in disguise, and images falsely paired.

    python benchmarks/disguises.py [--images 2000] [--cost 50000]

For each disguise the images of one side are copies of those of the other; both sides have the same
number. `CIFAR-100 halves` compares all images of classes 0-49 with all of classes 50-99: what is
paired there beside true duplicates is false. `--cost N` measures the seconds for N x N images.
"""

import argparse
import io
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from clgym.data.sources import Source, load_source
from clgym.data.store import image_hashes
from clgym.protocol.overlap import Footprint, alike, compare, footprint, footprint_of

Disguise = Callable[[np.ndarray], np.ndarray]
"""Images uint8 [n, H, W, C] to other ones."""


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--cost", type=int)
    asked = parser.parse_args()
    sources = [load_source(name) for name in ("cifar100", "mnist")]
    samples = [sample(source, asked.images) for source in sources]
    print("| disguise | CIFAR-100 | MNIST |\n|---|---|---|")
    for name, disguise in DISGUISES.items():
        found = [f"{100 * recall(images, disguise):.1f} %" for images in samples]
        print(f"| {name} | {' | '.join(found)} |", flush=True)
    print("\n| sides | images | paired | share of the smaller side |\n|---|---|---|---|")
    for source in sources:
        half = len(source.classes) // 2
        sides = [footprint(source, range(s, s + half)) for s in (0, half)]
        overlap = compare(*sides)
        counts = " x ".join(f"{n:,}" for n in overlap.images)
        share = 100 * overlap.near_images / min(overlap.images)
        print(f"| {source.name} halves | {counts} | {overlap.near_images} | {share:.3f} % |")
    if asked.cost:
        rows = [part(sample(source, asked.cost)) for source in (sources[0], sources[1])]
        clocks = time.perf_counter, time.process_time
        started = [clock() for clock in clocks]
        compare(*rows)
        wall, used = (clock() - s for clock, s in zip(clocks, started, strict=True))
        size = f"{asked.cost:,} x {asked.cost:,}"
        print(f"\n{size}: {wall:.0f} s, {used:.0f} s of processor time")


def sample(source: Source, count: int) -> np.ndarray:
    """Training images, the same for everybody."""
    rows = np.random.default_rng(1).permutation(len(source.train.labels))[:count]
    return np.asarray(source.train.images[np.sort(rows)])


def part(images: np.ndarray) -> Footprint:
    """What is looked at of images."""
    split = (images, image_hashes(images), np.arange(len(images)))
    return footprint_of("images", (), [split], 255)


def recall(images: np.ndarray, disguise: Disguise) -> float:
    """Share of the copies that are paired with their original, equal ones included."""
    pairs = compare_rows(part(np.ascontiguousarray(disguise(images))), part(images))
    return len({i for i, j in pairs if i == j}) / len(images)


def compare_rows(one: Footprint, other: Footprint) -> list[tuple[int, int]]:
    """Pairs of rows that look alike or are equal."""
    equal = np.flatnonzero((one.hashes == other.hashes).all(axis=1))
    return [*alike(one, other), *((int(i), int(i)) for i in equal)]


def _each(images: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    found = [np.asarray(change(Image.fromarray(i.squeeze()))).reshape(i.shape) for i in images]
    return np.stack(found)


def _jpeg(quality: int) -> Disguise:
    def change(image: Image.Image) -> Image.Image:
        data = io.BytesIO()
        image.save(data, "JPEG", quality=quality)
        return Image.open(io.BytesIO(data.getvalue()))

    return lambda images: _each(images, change)


def _resized(image: Image.Image) -> Image.Image:
    large = image.resize((2 * image.width, 2 * image.height), Image.Resampling.BILINEAR)
    return large.resize(image.size, Image.Resampling.BILINEAR)


def _one_pixel(images: np.ndarray) -> np.ndarray:
    changed = images.copy()
    changed[:, 5, 7] ^= 255
    return changed


def _noise(images: np.ndarray) -> np.ndarray:
    added = images + np.random.default_rng(2).normal(0, 8, images.shape)
    return np.clip(np.rint(added), 0, 255).astype(np.uint8)


def _grey(images: np.ndarray) -> np.ndarray:
    if images.shape[3] == 1:
        return np.repeat(images, 3, axis=3)
    weights = np.array([0.299, 0.587, 0.114])
    grey = np.rint(images @ weights).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=3)


def _shifted(images: np.ndarray) -> np.ndarray:
    moved = np.zeros_like(images)
    moved[:, 2:, 2:] = images[:, :-2, :-2]
    return moved


def _brighter(images: np.ndarray) -> np.ndarray:
    return np.clip(images.astype(int) + 30, 0, 255).astype(np.uint8)


def _cropped(images: np.ndarray) -> np.ndarray:
    """The inner 28 of 32 pixels, or 24 of 28, with a black frame in the old size."""
    kept = np.zeros_like(images)
    kept[:, 2:-2, 2:-2] = images[:, 2:-2, 2:-2]
    return kept


def _bordered(images: np.ndarray) -> np.ndarray:
    framed = images.copy()
    framed[:, [0, -1]] = framed[:, :, [0, -1]] = 255
    return framed


DISGUISES: dict[str, Disguise] = {
    "identical": lambda images: images,
    "one pixel": _one_pixel,
    "JPEG, quality 95": _jpeg(95),
    "JPEG, quality 50": _jpeg(50),
    "normal noise of 8 levels": _noise,
    "resize x 2 and back": lambda images: _each(images, _resized),
    "grey as colour": _grey,
    "flip": lambda images: images[:, :, ::-1],
    "quarter turn": lambda images: np.rot90(images, axes=(1, 2)),
    "inversion": lambda images: 255 - images,
    "shift by 2 pixels": _shifted,
    "brightness + 30": _brighter,
    "crop 28 with padding": _cropped,
    "border of 1 pixel": _bordered,
}


if __name__ == "__main__":
    main()
