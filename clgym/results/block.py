"""What all blocks of a record have in common."""

from pydantic import BaseModel, ConfigDict

__all__ = ["RecordBlock"]


class RecordBlock(BaseModel):
    """A part of a record: it cannot be changed, and has no field that is not stated here."""

    model_config = ConfigDict(extra="forbid", frozen=True)
