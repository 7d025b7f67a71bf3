"""Values as people read them in a terminal: quantities that belong together on one line, in the units of display, a reason where there is
no number."""

import re
import sys
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.text import Text

from logbook.quantities import BY_ID

WIDTH = 80
SPARE = 2  # columns; terminals set for Japanese may give two to each of ° ² ³ …, of which a line has two at most
COLOURS = {"ok": "green", "degraded": "yellow", "configuring": "cyan", "failed": "red", "absent": "bright_black"}  # of a part's state


def width() -> int:
    """The terminal's width where there is one, but no more than the tables need."""
    return (min(WIDTH, Console().width) if sys.stdout.isatty() else WIDTH) - SPARE


def number(quantity: str, value: float | str) -> str:
    """A value in its unit of display; "-" where there is a reason instead."""
    row = BY_ID[quantity]
    return "-" if isinstance(value, str) else f"{row.display.shown(value):.{row.decimals}f}"


def groups(quantities: Iterable[str]) -> list[list[str]]:
    """Quantities that share a line: the axes of a vector, the sizes of particles."""
    found: dict[str, list[str]] = {}
    for quantity in quantities:
        key = re.sub(r"_[xyz]$", "", quantity)
        key = re.sub(r"^(pm|particles_above_|particles_)\d.*$", r"\1", key)
        found.setdefault(key, []).append(quantity)
    return list(found.values())


def label(group: list[str]) -> str:
    """The name of the first, with what the others differ in: "Acceleration X Y Z", "Particles < 0.5-10 µm"."""
    names = [BY_ID[quantity].name for quantity in group]
    if len(names) == 1:
        return names[0]
    stem = re.match(r"^(PM|Particles . |.* )", names[0])
    start = stem.end() if stem else 0
    if names[0].endswith(" µm"):
        return f"{names[0].removesuffix(' µm')}-{names[-1][start:]}"
    return names[0][:start] + " ".join(name[start:] for name in names)


def of_group(group: list[str], values: Mapping[str, float | str]) -> Text:
    """The values of a group with their unit, or the one reason why there is none of them."""
    found = [values[quantity] for quantity in group]
    reasons = list(dict.fromkeys(value for value in found if isinstance(value, str)))
    if len(reasons) == 1 and all(isinstance(value, str) for value in found):
        return Text(reasons[0], style="yellow")
    return Text(f"{' '.join(number(quantity, values[quantity]) for quantity in group)} {BY_ID[group[0]].display.unit}")


def as_json(quantity: str, value: float | str) -> dict[str, float | str]:
    """A value in SI with its unit and as it is shown, or its reason."""
    if isinstance(value, str):
        return {"reason": value}
    row = BY_ID[quantity]
    return {"value": value, "unit": row.unit, "shown": f"{number(quantity, value)} {row.display.unit}"}
