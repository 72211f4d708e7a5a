"""A learner's conduct, as a record keeps it: what it keeps, and whether testing changes it."""

from collections.abc import Collection
from typing import Literal

from pydantic import Field

from clgym.results.block import RecordBlock

__all__ = ["Cause", "Conduct"]

Cause = Literal["the batch", "earlier predictions"]
"""What the answer to an image depends on, besides the image and what was learned."""
_LARGE_SAMPLE = 4
"""Float32 images, beside 64 KiB for logits and features, that one stored sample may take."""


class Conduct(RecordBlock):
    """What the gym saw of the learner besides its answers; the result does not depend on it."""

    memory_capacity: int = Field(ge=0)
    """Samples of past experiences, or of past batches on adaptation streams, that the strategy
    declared to keep at most."""
    memory_bytes: int = Field(ge=0)
    """Size of the samples held at the end."""
    image_numbers: int = Field(ge=1)
    """Numbers of one image: channels x height x width."""
    kept_images: dict[str, int] = {}
    """Most images of the stream that lay outside of the memory when the run was saved, by place."""
    tested_apart: bool | None = None
    """Whether a learner of its own, restored from the state that training left, answered each test
    and ended with it; None on adaptation streams and in records of earlier versions."""
    changed_by_testing: list[int] = []
    """Experiences after whose test the learner's state was not that which training left."""
    answered_twice: int = 0
    """Test images of the last experience that were answered again, in another order and other
    batches; 0 on adaptation streams, whose answers depend on what came before."""
    answered_differently: int = 0
    """Test images whose second answer was another one."""
    depends_on: Cause | None = None
    """What such answers depend on; None where they are alike."""

    def hoards(self) -> list[str]:
        """The places that hold images which were not declared, in words."""
        return [
            f"{images} images kept outside of the memory: {place}"
            for place, images in self.kept_images.items()
        ]

    def flags(self, stored_samples: int, known_failures: Collection[str]) -> list[str]:
        """What a reader of the result should know, in words.

        Args:
            stored_samples: Samples held at the end.
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
