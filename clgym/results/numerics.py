"""Block of a record about options for speed, which change digits of a result or leave out tests."""

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

__all__ = ["NumericFacts"]

_LATER: dict[str, object] = {"optimizer_kernel": "auto", "evaluate_every": None}
"""Fields that records of earlier versions lack, with their defaults."""


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
    evaluate_every: Annotated[int, Field(ge=2)] | Literal["last"] | None = None
    """Number of experiences from one test to the next, or ``last`` for one test at the end; the
    last experience is always tested. None: each is tested; the serialised block then lacks the
    field, as in records of earlier versions."""

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, plain: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave out the later fields that are not set: hashes of earlier results lack them."""
        facts: dict[str, object] = plain(self)
        return {name: v for name, v in facts.items() if name not in _LATER or v != _LATER[name]}

    def is_tested(self, experience: int, experiences: int) -> bool:
        """Whether a test follows an experience.

        Args:
            experience: Index of the experience, from 0.
            experiences: Number of experiences of the stream.
        """
        every, number = self.evaluate_every, experience + 1
        if every is None or number == experiences:
            return True
        return every != "last" and number % every == 0

    def words(self) -> list[str]:
        """The options of ``clgym run`` that differ from their defaults."""
        every = self.evaluate_every
        return self._digits() + ([] if every is None else ["--evaluate-every", str(every)])

    def flags(self) -> list[str]:
        """Warnings for readers of tables."""
        digits = self._digits()
        found = [f"run with {' '.join(digits)}"] if digits else []
        return found + ([] if self.evaluate_every is None else [self.tests])

    @property
    def tests(self) -> str:
        """The experiences after which the learner was tested, in words."""
        match self.evaluate_every:
            case None:
                return "tested after every experience"
            case "last":
                return "tested only after the last experience"
            case every:
                return f"tested after every {every} experiences and the last"

    def _digits(self) -> list[str]:
        """Options that change digits of the result."""
        words = [] if self.arithmetic == "fp32" else ["--arithmetic", self.arithmetic]
        words += ["--channels-last"] if self.channels_last else []
        words += ["--compile"] if self.compile else []
        if self.optimizer_kernel != "auto":
            words += ["--optimizer-kernel", self.optimizer_kernel]
        return words + ([] if self.eval_batch is None else ["--eval-batch", str(self.eval_batch)])
