"""Base class of all blocks of a record."""

from pydantic import BaseModel, ConfigDict

__all__ = ["RecordBlock"]


class RecordBlock(BaseModel):
    """A block of a record: it is frozen, and unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
