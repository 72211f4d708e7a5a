"""Streams of unlabelled batches, and of two phases; `clgym.scenario` has learning streams."""
