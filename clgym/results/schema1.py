"""Records of schema 1, as clgym 0.1 wrote them, and how they are read.

They had one kind of result: an adaptation stream was written as one experience with a 1 x 1 matrix,
beside the block that says what was measured.
"""

from collections.abc import Mapping
from typing import Any, TypeGuard

__all__ = ["as_one_experience", "is_record", "upgraded"]


def as_one_experience(result: Mapping[str, Any]) -> dict[str, object]:
    """The fields with which schema 1 represents an adaptation stream as one experience."""
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


def is_record(facts: Any) -> bool:
    """Whether data are a record of schema 1, which did not always state its version."""
    if not _is_mapping(facts) or facts.get("schema_version", 1) != 1:
        return False
    result = facts.get("result", {})
    return _is_mapping(result) and "kind" not in result


def _is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def upgraded(record: Mapping[str, Any]) -> dict[str, object]:
    """Convert a record of schema 1 to schema 2, whose model then validates its values.

    Raises:
        ValueError: Fields of an adaptation stream contradict one another, or are missing.
    """
    newer: dict[str, object] = {**record, "schema_version": 2}
    if "result" not in record:
        return newer  # the validation of schema 2 reports what is missing
    result = dict(record["result"])
    scenario = result.get("scenario")
    if result.get("adaptation") is None:
        result = {k: v for k, v in result.items() if k != "adaptation"} | {"kind": "learning"}
    elif _is_mapping(scenario) and scenario.get("setting") == "adaptation":
        _drop_one_experience(result)
        result["kind"] = "adaptation"
    else:
        result["kind"] = "two-phases"
    return {**newer, "result": result}


def _drop_one_experience(result: dict[str, object]) -> None:
    try:
        said = as_one_experience(result)
    except (TypeError, LookupError, ZeroDivisionError) as error:
        raise ValueError(f"its adaptation block cannot be read ({error})") from None
    for name, value in said.items():
        if name not in result or result.pop(name) != value:
            raise ValueError(f"result.{name} does not follow from the mean error")
