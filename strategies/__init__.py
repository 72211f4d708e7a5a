"""Strategies: one file a method. The file's name is the strategy's name."""
