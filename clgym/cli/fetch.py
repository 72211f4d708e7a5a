"""Download a source or the weights of a network; the only command that uses the network."""

from collections.abc import Sequence

from clgym.cli._parser import Parser, add_data_root_option

__all__ = ["main"]


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym fetch``."""
    parser = Parser("clgym fetch", __doc__)
    parser.add_argument("name", help="Source from `clgym list sources`, or a model tag of timm.")
    add_data_root_option(parser)
    values = parser.parse(words)
    if "." in values.name:  # no source has a dot, every tag has one
        from clgym.models import backbones

        print(f"now at {backbones.fetch(values.name, print)}")
        return 0
    from clgym.data.fetch import fetch

    for path in fetch(values.name, values.data_root, print):
        print(f"now at {path}")
    return 0
