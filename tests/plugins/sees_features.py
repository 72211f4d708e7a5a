"""Opens the cached features of all images, and tells how that went by its error."""

from pathlib import Path

import numpy as np

from clgym.strategy import Frozen, Needs, Strategy

BACKBONE = ""
CACHE = ""
TESTING = False  # whether it looks when it is tested, or when it trains


class SeesFeatures(Strategy):
    needs = Needs(features=True, backbone=Frozen(BACKBONE, 32, "stretch") if BACKBONE else None)

    def train(self, experience) -> None:
        if not TESTING:
            self.look()

    def predict(self, batch):
        assert len(batch.features) == len(batch)
        self.look()

    def look(self) -> None:
        try:
            tables = [path for path in Path(CACHE, "features").iterdir() if path.is_dir()]
            found = sum(np.load(table / "values.npy").any(axis=1).sum() for table in tables)
        except BaseException as error:
            raise RuntimeError(f"REFUSED {type(error).__name__} {error}") from None
        raise RuntimeError(f"GOT {found}")
