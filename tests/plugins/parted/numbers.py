"""A module beside the plugin."""

FACTOR = 0.5
