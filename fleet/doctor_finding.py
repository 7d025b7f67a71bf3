"""What a check of `cruisers doctor` found, without words: a colour, what was seen, and what to do. fleet/doctor_words.py has the words."""

from typing import Any, NamedTuple

GREEN, YELLOW, RED, GREY = "green", "yellow", "red", "grey"
COLOURS = (GREY, GREEN, YELLOW, RED)  # from nothing to worst


class Say(NamedTuple):
    """A sentence of the table of words: its key, and what stands in its braces. A value that is itself a Say is put into words, too."""

    key: str
    values: dict[str, Any]


class Finding(NamedTuple):
    """One thing that was looked at. `do` is None where nothing is to be done."""

    colour: str
    saw: Say
    do: Say | None = None


def say(key: str, **values: Any) -> Say:
    """The sentence `key` with `values`."""
    return Say(key, values)


def green(key: str, **values: Any) -> Finding:
    """As it should be."""
    return Finding(GREEN, say(key, **values))


def grey(key: str, do: Say | None = None, **values: Any) -> Finding:
    """Not there to be looked at, or not to be known."""
    return Finding(GREY, say(key, **values), do)


def yellow(key: str, do: Say, **values: Any) -> Finding:
    """It works, and somebody has to see to it."""
    return Finding(YELLOW, say(key, **values), do)


def red(key: str, do: Say, **values: Any) -> Finding:
    """It does not work, or data is in danger."""
    return Finding(RED, say(key, **values), do)


def worst(findings: list[Finding]) -> str:
    """The colour of all together; grey if there is none."""
    return max((finding.colour for finding in findings), key=COLOURS.index, default=GREY)
