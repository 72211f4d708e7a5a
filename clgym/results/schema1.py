"""Records of schema 1, as clgym 0.1 wrote them, and how they are read today.

They had one kind of result: an adaptation stream was written as one experience with a 1 x 1 matrix,
beside the block that says what was measured.
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["as_one_experience", "upgraded"]


def as_one_experience(result: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with which schema 1 wrote an adaptation stream as one experience."""
    adaptation = result["adaptation"]
    accuracy = 1 - adaptation["mean_error"]
    return {
        "accuracy_matrix": [[accuracy]],
        "test_counts": [sum(segment["images"] for segment in adaptation["segments"])],
        "accuracy_after": [accuracy],
        "task_aware_accuracy_after": [accuracy],
        "last_accuracy": accuracy,
        "average_incremental_accuracy": accuracy,
        "forgetting": None,
        "backward_transfer": None,
        "forward_transfer": None,
        "chance": [1 / len(result["class_order"])],
    }


def upgraded(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of schema 1 in the form of schema 2; what it says is validated there.

    Raises:
        ValueError: fields of an adaptation stream contradict one another.
        LookupError, TypeError, AttributeError: it is no record of schema 1.
    """
    upgraded_record = {**record, "schema_version": 2}
    if not isinstance(record.get("result"), dict):
        return upgraded_record  # validation says what is missing
    result = dict(record["result"])
    if "kind" in result:
        raise ValueError("a result of schema 1 has no kind")
    if result.get("adaptation") is None:
        result = {k: v for k, v in result.items() if k != "adaptation"} | {"kind": "learning"}
    elif result.get("scenario", {}).get("setting") == "adaptation":
        for name, value in as_one_experience(result).items():
            if result.pop(name) != value:
                raise ValueError(f"result.{name} does not follow from the mean error")
        result["kind"] = "adaptation"
    else:
        result["kind"] = "two-phases"
    return {**upgraded_record, "result": result}
