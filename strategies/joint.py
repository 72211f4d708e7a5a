"""Training from scratch on all rows so far: the upper bound."""

from clgym.avalanche import SGDStrategy
from clgym.strategy import Experience, Needs


class Joint(SGDStrategy):
    """A fresh network for every experience, trained on that experience's rows and all earlier ones.

    It starts afresh because going on from the last weights would see the old rows more often than
    the new ones: a sort of replay, no upper bound.
    """

    @property
    def needs(self) -> Needs:
        """The rows of all earlier experiences."""
        return Needs(past_data=True)

    def begin(self, experience: Experience) -> None:
        """Draw new weights."""
        fresh = self.make_network(self._columns(experience.columns))
        self.network.grow(fresh.columns)
        self.network.load_state_dict(fresh.state_dict())
