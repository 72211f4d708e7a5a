"""Tune on one dataset, seal the outcome, evaluate on another dataset."""
