"""Save and restore a learner: its strategy, its memory, its generators."""

from dataclasses import dataclass, fields
from pathlib import Path

from clgym.data.generators import generator_states, set_generators
from clgym.learner.oversight import Oversight
from clgym.learner.state import InsideState, LearnerState, state_fingerprint, write_state
from clgym.messages import StreamFacts
from clgym.strategy import Strategy, StreamInfo

__all__ = ["Keeper"]


@dataclass(frozen=True)
class Keeper:
    """Parts of a learner that make up its state."""

    strategy: Strategy
    info: StreamInfo
    facts: StreamFacts
    scale: float
    oversight: Oversight

    def write(self, path: Path, inside: InsideState | None = None) -> None:
        """Write the state; ``inside`` is added inside an experience."""
        facts = {field.name: getattr(self.facts, field.name) for field in fields(self.facts)}
        state: LearnerState = {
            "strategy": self.strategy.state_dict(),
            "memory": self.info.memory.state_dict(),
            "generators": generator_states(self.info.device),
            "facts": {**facts, "scale": self.scale},
        }
        if self.info.setting == "adaptation":
            state["serving"] = self.oversight.serving()
        if (signatures := self.oversight.signatures()) is not None:
            state["signatures"] = signatures
        if inside is not None:
            state["inside"] = inside
        write_state(path, state)

    def restore(self, state: LearnerState) -> None:
        """Restore a state that was read."""
        self.info.memory.load_state_dict(state["memory"], self.info.device)
        self.strategy.load_state_dict(state["strategy"])
        # States of earlier versions have neither.
        self.oversight.restore(state.get("signatures", {}), state.get("serving", []))
        set_generators(state["generators"], self.info.device)

    def fingerprint(self) -> str:
        """Fingerprint of the learner's state, by which changes during a test are detected."""
        memory = self.info.memory
        kept = {"seen": memory.seen, "columns": memory.columns()}
        return state_fingerprint({"strategy": self.strategy.state_dict(), "memory": kept})
