"""Block of a record about options that change a run's speed and the last digits of its result."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

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
    optimizer_kernel: Literal["auto", "single", "foreach", "fused"] = "auto"
    """How torch's optimizers took their steps: parameter by parameter, many parameters in one call,
    or the whole step in one kernel; auto means torch's choice."""
    eval_batch: int | None = None
    """Number of test images in a batch; None means the default."""

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave the kernel out unless it was set: hashes of earlier results do not cover it."""
        facts = dump(self)
        if self.optimizer_kernel == "auto":
            facts.pop("optimizer_kernel", None)
        return facts

    def words(self) -> list[str]:
        """The options of ``clgym run`` that differ from their defaults."""
        words = [] if self.arithmetic == "fp32" else ["--arithmetic", self.arithmetic]
        words += ["--channels-last"] if self.channels_last else []
        words += ["--compile"] if self.compile else []
        if self.optimizer_kernel != "auto":
            words += ["--optimizer-kernel", self.optimizer_kernel]
        return words + ([] if self.eval_batch is None else ["--eval-batch", str(self.eval_batch)])
