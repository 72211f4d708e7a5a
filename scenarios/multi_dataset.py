"""Each task is a data set of its own, with its own classes; the task id is known.

The protocol of the 53 data sets of Ge et al., "CLR", ICCV 2023 (arXiv 2307.11386), for any list.
Sources may differ in size and colour: images are brought to ``resize`` and to the channels of the
richest. ``cifar100[0..19]`` takes some classes of a source, so one source may give several tasks.
``root:NAME`` is a source without a card, by its name in the data root: a folder with a folder of
images a class, NAME.npz, or a folder with train.npz and test.npz. ``list:FILE`` reads the list from
a text file in the data root, one source a line, # for comments; ``folder:PATH`` there is relative
to it.

As in that protocol a task has at most ``images`` training and test images, drawn evenly over its
classes, round(images / classes) of each; twice as many from 60 classes on; at most ``max_classes``.

``multi-clr-named`` holds the 23 of the 53 sets whose names are known here, in the paper's order as
far as that is known: where ``clevr`` stands is not, nor which 30 come between ``pokemon`` and
``kannada-mnist`` and elsewhere. Its average is not the paper's. ``multi-53`` reads all of them from
``clr53.txt``, for those who have the authors' data and list.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge

from clgym.data.root import data_root as root_of
from clgym.data.sources import Source
from clgym.errors import BadStream, MissingData
from clgym.scenario import Scenario, ScenarioConfig, Seed, Step, Stream, split_validation

PRESETS = {
    "multi-digits": {"source": "digits[0..4],digits[5..9]", "resize": 8, "memory_size": 100},
    "multi-small": {
        "source": "mnist,cifar10,cifar100[0..19],cifar100[20..39],digits,"
        "pacs-art-painting,pacs-cartoon,pacs-sketch",
        "resize": 64,
        "network": "resnet18",
    },
    "multi-clr-named": {
        "source": "root:scenes,root:birds,root:wikiart,root:describable-textures,"
        "root:office-home-clipart,root:office-home-product,root:office-home-art,root:food-101,"
        "root:eurosat,root:hist-aerial,root:oriset,root:rice,root:garbage,root:pokemon,"
        "root:clevr,root:kannada-mnist,root:dragon-ball,root:ip102,root:planets,"
        "root:beer-labels,root:kvasir-capsule,root:atari,root:deepvp",
        "resize": 224,
        "network": "resnet18",
        "images": [2560, 256],
        "max_classes": 300,
    },
    "multi-53": {
        "source": "list:clr53.txt",
        "resize": 224,
        "network": "resnet18",
        "images": [2560, 256],
        "max_classes": 300,
    },
}

_SIDE = 224
"""Side in pixels to which image files of ``root:NAME`` are decoded."""
_MANY = 60
"""Number of classes from which on a task may have twice as many images."""


@dataclass(frozen=True)
class MultiDatasetConfig(ScenarioConfig):
    """Options of `MultiDataset`."""

    images: tuple[Annotated[int, Ge(1)], ...] | None = None
    """Maximum number of training and of test images per task, over all its classes; none: all."""
    images_seed: Seed = 27
    """Seed of the draw of images and classes."""
    max_classes: Annotated[int, Ge(1)] | None = None
    """Maximum number of classes per task; none: all."""
    order_seed: Seed | None = None
    """Seed of the task order; none: the order of the list."""


class MultiDataset(Scenario):
    """One source, or some classes of it, a task."""

    Config = MultiDatasetConfig
    CHECK_CONFIG = {"source": "tiny[0..1],tiny[2..3],tiny[4..5]"}

    def source_names(self) -> Sequence[str]:
        """The list, in its order."""
        return [name for name, _ in self._parts()]

    def _parts(self) -> list[tuple[str, range | None]]:
        """Source and class numbers of each task; None means all classes."""
        names = self.config.source.split(",")
        if self.config.source.startswith("list:"):
            names = _lines(self._root() / self.config.source.removeprefix("list:"))
        parts = [_part(name.strip()) for name in names if name.strip()]
        if not any(name.startswith("root:") for name, _ in parts):
            return parts
        found = _in_root(self._root(), [name for name, _ in parts])
        return [(name, classes) for name, (_, classes) in zip(found, parts, strict=True)]

    def _root(self) -> Path:
        return root_of(self.data_root)

    def stream(self, sources: Sequence[Source], order_seed: int | None) -> Stream:
        """One task a source; see `Scenario.stream`.

        Raises:
            BadStream: no common image size, or classes that a source does not have.
        """
        config = self.config
        shape = self._shape(sources)
        seed = config.order_seed if order_seed is None else order_seed
        order = list(range(len(sources)))
        if seed is not None:
            order = np.random.RandomState(seed).permutation(len(sources)).tolist()
        parts, steps, names = self._parts(), [], []
        columns = [np.full(len(source.classes), -1) for source in sources]
        for number in order:
            source = sources[number]
            classes = fewer_classes(classes_of(source, parts[number][1]), config)
            columns[number][classes] = np.arange(len(names), len(names) + len(classes))
            steps.append(self._step(source, number, classes, len(names)))
            names += [f"{number}:{source.classes[c]}" for c in classes]
        return Stream(
            name=self.name,
            setting="task-incremental",
            sources=tuple(s.name for s in sources),
            fingerprints=tuple(s.fingerprint for s in sources),
            image_shape=shape,
            columns=tuple(tuple(c.tolist()) for c in columns),
            steps=tuple(steps),
            class_order=tuple(names),
        )

    def _step(self, source: Source, number: int, classes: list[int], column: int) -> Step:
        most_train, most_test = (*(self.config.images or ()), None, None)[:2]
        generator = np.random.RandomState(self.config.images_seed)
        train = _drawn(source.train.labels, classes, most_train, generator)
        train, valid = split_validation(train, source.train.labels[train], self.config.validation)
        test = _drawn(source.test.labels, classes, most_test, generator)
        own = tuple(range(column, column + len(classes)))
        return Step(train, test, own, valid, number)

    def _shape(self, sources: Sequence[Source]) -> tuple[int, int, int]:
        shapes = [source.train.images.shape[1:] for source in sources]
        channels, resize = max(s[2] for s in shapes), self.config.resize
        sizes = {s[:2] for s in shapes}
        if resize is None and len(sizes) > 1:
            raise BadStream(
                expected="one image size for all tasks",
                found=", ".join(f"{h}x{w}" for h, w in sorted(sizes)),
                fix="Give --resize a side",
            )
        height, width = (resize, resize) if resize else shapes[0][:2]
        return channels, height, width


def _part(name: str) -> tuple[str, range | None]:
    found = re.fullmatch(r"(.+)\[(\d+)\.\.(\d+)\]", name)
    return (found[1], range(int(found[2]), int(found[3]) + 1)) if found else (name, None)


def _in_root(root: Path, names: Sequence[str]) -> list[str]:
    """The names, ``root:NAME`` put as ``folder:PATH`` or ``npz:PATH``.

    Raises:
        MissingData: some lie nowhere; the message lists all.
    """
    found, missing = [], []
    for name in names:
        kind, _, place = name.partition(":")
        path, packed = root / place, root / f"{place}.npz"
        if kind != "root":
            found.append(name)
        elif packed.is_file() or (path / "train.npz").is_file():
            found.append(f"npz:{packed if packed.is_file() else path}")
        elif path.is_dir():
            found.append(f"folder:{path}@{_SIDE}")
        else:
            missing.append(place)
    if missing:
        raise MissingData(
            expected=f"{len(names)} sources of the list, those without a card in the data root",
            found=f"{len(missing)} missing: {', '.join(missing)}",
            fix="Put each there as a folder with train/CLASS/ and test/CLASS/ or as NAME.npz, "
            "or give --source A,B,C",
        )
    return found


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise MissingData(
            expected=f"a list of sources at {path.name} in the data root (CLGYM_DATA)",
            found="no such file",
            fix="Write one source a line into it, such as folder:scenes, or give --source A,B,C",
        )
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    return [re.sub(r"^(folder|npz):(?=[^/~])", rf"\1:{path.parent}/", line) for line in lines]


def classes_of(source: Source, wanted: range | None) -> list[int]:
    """Class numbers that have training images."""
    present = np.unique(source.train.labels).tolist()
    if wanted is None:
        return present
    missing = sorted(set(wanted) - set(present))
    if missing or not wanted:
        raise BadStream(
            expected=f"class numbers that {source.name} has images of (0 to {max(present)})",
            found=f"{wanted.start}..{wanted.stop - 1}",
            fix="Give --source other numbers in the brackets",
        )
    return list(wanted)


def fewer_classes(classes: list[int], config: MultiDatasetConfig) -> list[int]:
    """Draw at most ``max_classes`` of the classes, ascending."""
    most = config.max_classes
    if most is None or len(classes) <= most:
        return classes
    generator = np.random.RandomState(config.images_seed)
    return sorted(generator.permutation(classes)[:most].tolist())


def _drawn(
    labels: np.ndarray, classes: list[int], most: int | None, generator: np.random.RandomState
) -> np.ndarray:
    """Rows of some classes, ascending: all, or an even share of ``most`` for each class."""
    rows = [np.flatnonzero(labels == c) for c in classes]
    if most is not None:
        total = most if len(classes) < _MANY else 2 * most
        share = max(1, round(total / len(classes)))
        rows = [np.sort(generator.permutation(r)[:share]) for r in rows]
    return np.sort(np.concatenate(rows))
