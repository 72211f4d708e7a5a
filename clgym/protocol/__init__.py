"""Tune on one data set, seal, evaluate on another."""
