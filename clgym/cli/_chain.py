"""``--with ema,sam``: a strategy inside wrappers, without the nesting spelled out.

``clgym run derpp STREAM --with ema,sam --ema.decay 0.9 --lr 0.1`` is the command ``clgym run ema
STREAM --base sam --base.base derpp --decay 0.9 --base.base.lr 0.1``: the first name is the
outermost. Options of a wrapper have its name in front; those of the strategy inside keep their
names. ``--schedule NAME`` is short for ``--with lr-schedule --lr-schedule.kind NAME``, and
``--replay-rate X`` for ``--with rate-replay --rate-replay.rate X``, outside of other wrappers.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from clgym.cli._parser import BadUsage

__all__ = ["Chain", "chained", "short_options", "spelled_out"]

_OPTION = "--with"
_SHORT = {"--schedule": ("lr-schedule", "kind"), "--replay-rate": ("rate-replay", "rate")}
"""Options that stand for a wrapper: the wrapper's name, and the wrapper's option for the value."""


@dataclass(frozen=True)
class Chain:
    """A command line with its wrappers unfolded.

    Attributes:
        names: The outermost strategy, then the other names on the command line.
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

    def check(self, fields: Collection[str]) -> None:
        """Refuse a name of ``--with`` that wraps no strategy.

        Args:
            fields: Names of the options of the outermost strategy, and of those inside it.

        Raises:
            BadUsage: A name is that of another strategy.
        """
        for name, prefix in [*self.depth.items()][:-1]:
            if f"{prefix}base" not in fields:
                raise BadUsage(
                    expected=f"wrappers after {_OPTION}, such as {_OPTION} ema,sam",
                    found=f"{name}, which wraps no strategy",
                    fix="Name the strategy itself first, and its wrappers after --with",
                )


def chained(names: Sequence[str], words: Sequence[str]) -> Chain:
    """Unfold ``--with`` on a command line.

    Raises:
        BadUsage: ``--with`` names no wrapper, or one twice.
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


def short_options(words: Sequence[str]) -> list[str]:
    """Short options on a command line, under the names that fields of a strategy would have."""
    given = {word.partition("=")[0] for word in words}
    return [option[2:].replace("-", "_") for option in _SHORT if option in given]


def spelled_out(words: Sequence[str], own: Collection[str]) -> list[str]:
    """A command line with its short options as wrappers, outside of those of ``--with``.

    Args:
        words: Options.
        own: Names of short options that the strategy has itself; these are not expanded.

    Raises:
        BadUsage: A short option has no value.
    """
    rest, added, values = list(words), list[str](), list[str]()
    for short, (wrapper, option) in _SHORT.items():
        name = short[2:].replace("-", "_")
        if name in own or name not in short_options(words):
            continue
        value, rest = _value(short, rest)
        added.append(wrapper)
        values += [f"--{wrapper}.{option}", value]
    if not added:
        return rest
    wrappers, rest = _taken(rest)
    return [_OPTION, ",".join([*added, *(wrappers or [])]), *values, *rest]


def _value(option: str, words: Sequence[str]) -> tuple[str, list[str]]:
    """The value of an option that the words contain, and all other words."""
    place = next(i for i, word in enumerate(words) if word.partition("=")[0] == option)
    _, equals, value = words[place].partition("=")
    after = "".join(words[place + 1 : place + 2])
    value = value if equals else after
    if not value or (value.startswith("--") and not equals):
        raise BadUsage(
            expected=f"a value after {option}",
            found=value or "nothing",
            fix=f"Give {option} one, such as --schedule infinite or --replay-rate 0.25",
        )
    return value, [*words[:place], *words[place + (1 if equals else 2) :]]


def _taken(words: Sequence[str]) -> tuple[list[str] | None, list[str]]:
    """The wrappers of ``--with`` (None without the option), and all other words."""
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
