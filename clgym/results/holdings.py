"""Block of a record about the sizes of what the learner held: parameters, and all other state."""

from pydantic import Field

from clgym.results.block import RecordBlock

__all__ = ["HoldingFacts"]


class HoldingFacts(RecordBlock):
    """Sizes of what the learner held, counted by the gym in the same way for every strategy."""

    trainable: int = Field(default=0, ge=0)
    """Number of network parameters that gradients change and predictions depend on."""
    total: int = Field(default=0, ge=0)
    """Number of all fractional values that predictions depend on (parameters, class means, frozen
    backbones) without buffers of networks."""
    buffers: int = Field(default=0, ge=0)
    """Number of the other values that predictions depend on: buffers of networks such as running
    statistics, counts, masks."""
    stored_bytes: int = Field(default=0, ge=0)
    """Largest number of bytes that predictions did not depend on, over all tests of the run:
    memory, statistics, earlier networks. Optimizers are left out.
    """
    stored: dict[str, int] = {}
    """Number of these bytes at the end of the run, by place."""
    budget_bytes: int | None = Field(default=None, ge=0)
    """Maximum number of bytes that the strategy declared to store; None if it declared no budget.
    """

    @property
    def is_over(self) -> bool:
        """Whether more was stored than declared."""
        return self.budget_bytes is not None and self.stored_bytes > self.budget_bytes

    def flags(self) -> list[str]:
        """Warning if more was stored than declared."""
        if not self.is_over:
            return []
        return [f"stores {self.stored_bytes:,} bytes, above its budget of {self.budget_bytes:,}"]
