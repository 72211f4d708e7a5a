"""A plugin of several files: the class stands in one, its arithmetic in another."""

from .method import Brightness

SPACE = {"scale": [1.0, 2.0]}

__all__ = ["Brightness"]
