"""Block of a record about options that change a run's speed and the last digits of its result."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["NumericFacts"]


class NumericFacts(BaseModel):
    """Options of `clgym run` for speed; none is on by default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arithmetic: Literal["fp32", "tf32", "bf16"] = "fp32"
    """Arithmetic of training and prediction: single precision, TF32 on a GPU, or autocast to
    bfloat16."""
    channels_last: bool = False
    """Memory format of the images in convolutions: channels last."""
    compile: bool = False
    """Whether networks were compiled (``torch.compile``)."""
    eval_batch: int | None = None
    """Number of test images in a batch; None means the default."""

    def words(self) -> list[str]:
        """The options of ``clgym run`` that differ from their defaults."""
        words = [] if self.arithmetic == "fp32" else ["--arithmetic", self.arithmetic]
        words += ["--channels-last"] if self.channels_last else []
        words += ["--compile"] if self.compile else []
        return words + ([] if self.eval_batch is None else ["--eval-batch", str(self.eval_batch)])
