"""The version, in a separate file, so that its import does not load the public names."""

__all__ = ["__version__"]

__version__ = "0.2.0"
