"""Modules whose sizes follow the state that is loaded into them: heads and branches that grow."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["SizedByState"]


class SizedByState(nn.Module):
    """Base of modules that are made small and grow while they learn.

    `setup` makes them at their first size; a saved state brings the size that they had.
    """

    def take_sizes(self, saved: Mapping[str, Tensor]) -> None:
        """Give the module's parameters, buffers and parts the sizes of a state.

        Args:
            saved: Tensors of the state, by their names in this module.
        """
        raise NotImplementedError

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take the sizes first; torch asks a module before it asks its parts."""
        self.take_sizes(
            {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
        )
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )
