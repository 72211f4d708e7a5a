"""Streams of unlabelled batches, and of two phases; learning streams stand in `clgym.scenario`."""
