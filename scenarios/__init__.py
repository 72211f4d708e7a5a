"""Scenarios: one file a kind of stream. The file's name is the kind's name."""
