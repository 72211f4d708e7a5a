"""Block of a record about the learner's conduct: what it stores, and whether testing changes it."""

from collections.abc import Collection
from typing import Literal

from pydantic import Field

from clgym.results.block import RecordBlock

__all__ = ["Cause", "Conduct"]

Cause = Literal["the batch", "earlier predictions"]
"""What the prediction for an image depends on, besides the image and the learned state."""
_LARGE_SAMPLE = 4
"""Maximum size of a stored sample in float32 images, in addition to 64 KiB for logits and features.
"""


class Conduct(RecordBlock):
    """Observations of the gym about the learner besides its predictions; no part of the result."""

    memory_capacity: int = Field(ge=0)
    """Maximum number of samples that the strategy declared to keep: of past experiences, or of past
    batches on adaptation streams."""
    memory_bytes: int = Field(ge=0)
    """Size of the samples held at the end."""
    image_numbers: int = Field(ge=1)
    """Number of values of one image: channels x height x width."""
    kept_images: dict[str, int] = {}
    """By place, the largest number of images found outside the memory whenever the run was saved.
    """
    tested_apart: bool | None = None
    """Whether a separate learner, restored from the state after training, answered each test and
    ended with it; None on adaptation streams and in records of earlier versions."""
    learned_apart: bool | None = None
    """Whether each experience was learned by a learner of its own, which knew nothing of earlier
    ones but the saved state; None on adaptation streams and in records of earlier versions."""
    changed_by_testing: list[int] = []
    """Experiences after whose test the learner's state differed from that after training."""
    answered_twice: int = 0
    """Number of test images of the last experience that were predicted again, in another order and
    other batches; 0 on adaptation streams, whose predictions depend on earlier batches."""
    answered_differently: int = 0
    """Number of test images whose second prediction differed."""
    depends_on: Cause | None = None
    """What the differing predictions depend on; None if there are none."""

    def hoards(self) -> list[str]:
        """Warnings about places that hold images which the strategy did not declare."""
        return [
            f"{images} images kept outside of the memory: {place}"
            for place, images in self.kept_images.items()
        ]

    def flags(self, stored_samples: int, known_failures: Collection[str]) -> list[str]:
        """Warnings about the learner's conduct.

        Args:
            stored_samples: Number of samples stored at the end.
            known_failures: Checks that the strategy declares to fail.
        """
        found = self.hoards()
        if self.tested_apart is False:
            found.append("tests were answered in the learner's process")
        if self.changed_by_testing:
            found.append(f"testing changed the state {len(self.changed_by_testing)} times")
        if self.depends_on == "the batch":
            declared = "batch-independence" in known_failures
            words = ", as the strategy declares" if declared else ""
            found.append(f"answers depend on the batch{words}")
        elif self.depends_on is not None:
            found.append(f"answers depend on {self.depends_on}")
        allowed = _LARGE_SAMPLE * 4 * self.image_numbers + 65536
        if self.memory_bytes > allowed * stored_samples:
            found.append("stored samples are larger than images")
        return found
