"""The side of a run that learns, in the worker's process. It never holds a label of a test row.

Whatever brings a strategy to life comes by here, so this is where finished runs are offered as
networks to build on.
"""

from clgym import avalanche as avalanche  # before a plugin imports Avalanche: lean, without a home
from clgym.learner.run_networks import RUN, RunNetworks
from clgym.models import loaders

loaders.register(RUN, RunNetworks())
