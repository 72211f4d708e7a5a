"""Class-incremental, from another distribution."""

from clgym.scenarios.class_incremental import ClassIncremental  # pyright: ignore[reportMissingImports]


class SampleStream(ClassIncremental):
    """As it is."""
