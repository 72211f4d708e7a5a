"""Class-incremental, from another distribution."""

from clgym.scenarios.class_incremental import ClassIncremental


class SampleStream(ClassIncremental):
    """As it is."""
