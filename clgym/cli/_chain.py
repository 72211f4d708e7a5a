"""``--with ema,sam``: a strategy inside wrappers, without the nesting spelled out.

``clgym run derpp STREAM --with ema,sam --ema.decay 0.9 --lr 0.1`` is the command ``clgym run ema
STREAM --base sam --base.base derpp --decay 0.9 --base.base.lr 0.1``: the first name is the
outermost. Options of a wrapper have its name in front, those of the strategy inside are as ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from clgym.cli._parser import BadUsage

__all__ = ["Chain", "chained"]

_OPTION = "--with"


@dataclass(frozen=True)
class Chain:
    """A command line with its wrappers unfolded.

    Attributes:
        names: The outermost strategy, and whatever else was named.
        words: The options, those of ``--with`` spelled out.
        depth: For each strategy of the chain, the prefix of its options.
    """

    names: list[str]
    words: list[str]
    depth: dict[str, str]

    def aliases(self, field: str) -> list[str]:
        """Shorter names of an option: ``base.base.lr`` of the strategy inside is ``lr``."""
        prefix, dot, name = field.rpartition(".")
        owners = {p.rstrip("."): owner for owner, p in self.depth.items()}
        if not self.depth or name == "base" or prefix not in owners:
            return []
        owner = owners[prefix]
        inside = owner == list(self.depth)[-1]
        return [name if inside else f"{owner}.{name}"]


def chained(names: Sequence[str], words: Sequence[str]) -> Chain:
    """Unfold ``--with`` on a command line.

    Raises:
        BadUsage: it names nothing, or a wrapper twice.
    """
    wrappers, rest = _taken(words)
    if wrappers is None or not names:
        return Chain(list(names), list(words), {})
    chain = [*wrappers, names[0]]
    if not wrappers or len(set(chain)) < len(chain):
        raise BadUsage(
            expected=f"{_OPTION} with wrappers, each once, such as {_OPTION} ema,sam",
            found=",".join(wrappers) or "none",
            fix="Nest by --base and --base.base where a wrapper stands twice",
        )
    bases = [
        word
        for depth, name in enumerate(chain[1:])
        for word in ("--" + "base." * depth + "base", name)
    ]
    depth = {name: "base." * place for place, name in enumerate(chain)}
    return Chain([chain[0], *names[1:]], [*bases, *rest], depth)


def _taken(words: Sequence[str]) -> tuple[list[str] | None, list[str]]:
    """The wrappers of ``--with`` if it is there, and all other words."""
    rest, wrappers = list(words), None
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option == _OPTION:
            after = "".join(words[place + 1 : place + 2])
            value = value if equals or after.startswith("-") else after
            wrappers = [name.replace("_", "-") for name in value.split(",") if name]
            del rest[place : place + (1 if equals or not value else 2)]
            break
    return wrappers, rest
