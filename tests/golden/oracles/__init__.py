"""Closed forms of the methods in NumPy, which write golden files of random sizes.

Written from the formulas, without torch and without the package: each function draws sizes and
inputs from a generator and returns the arrays of one file, laid out as the authors' vectors are.
"""

# ruff: noqa: F401 (the fixture `oracles` hands out this module)
from .adam import adapter, cosine_head, simplecil
from .adaptation import bn_adapt, lame, moving_average
from .clr import clr_layer
from .dst import dst_death_rate, dst_erk, dst_first_masks, dst_prune_and_grow, dst_uniform
from .exemplars import bic_stage2, scratch_herding, scratch_kd, wa_align
from .means import nmc_class_incremental, nmc_sessions
from .mos import mos_align, mos_loss, mos_merge, mos_retrieval, mos_stats
from .refresh import refresh_derpp, refresh_fisher, refresh_unlearn
