"""The side of a run that learns, in the worker's process. It never holds a label of a test row.

Every import that makes a strategy imports this package, so it registers finished runs as networks
that strategies can build on.
"""

# before a plugin imports Avalanche: without its slow imports and its folder in the home folder
from clgym import avalanche as avalanche
from clgym.learner.run_networks import RUN, RunNetworks
from clgym.models import loaders

loaders.register(RUN, RunNetworks())
