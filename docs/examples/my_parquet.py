"""Images from two Parquet files, as data sets are published on hubs: encoded bytes and a label."""

import io
from pathlib import Path

import numpy as np

from clgym.data.imageset import ImageSet, Labelled


class MyParquet(ImageSet):
    """Files train.parquet and test.parquet with the columns ``image`` and ``label``."""

    licence = "as its owner states it"
    origin = "https://example.org/my-data"
    classes = ("zero", "one", "two")
    folder = "my-parquet"  # under the data root

    def read(self, folder: Path) -> tuple[Labelled, Labelled | None]:
        """Training and test images."""
        return self._split(folder / "train.parquet"), self._split(folder / "test.parquet")

    def _split(self, file: Path) -> Labelled:
        import pyarrow.parquet as parquet  # here: `clgym list` imports this file
        from PIL import Image

        table = parquet.read_table(file, columns=["image", "label"])
        encoded = [row["bytes"] for row in table["image"].to_pylist()]
        images = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in encoded]
        labels = np.asarray(table["label"].to_pylist(), dtype=np.int64)
        return Labelled(np.stack(images), labels, self.classes)
