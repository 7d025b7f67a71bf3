"""Calibration profiles: from what a chip says to what is true, for one sensor of one unit and a span of time.

A profile holds one straight line per quantity (true = said × scale + offset, in the SI unit of logbook/quantities.py). A value without
a profile passes unchanged and is marked uncalibrated: a reader can always tell a corrected number from a plain one, and raw bytes are
stored beside both, so that yesterday's data can be calibrated tomorrow.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from logbook.quantities import BY_ID

FOR_EVER_NS = 2**63 - 1


class ProfileError(ValueError):
    """What is wrong with a profile, in one line."""


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """true = said × scale + offset; offset in the SI unit of the quantity."""

    scale: float = 1.0
    offset: float = 0.0


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The corrections of one sensor of one unit.

    `unit` is the head's unique id (HELLO), `sensor` the chip as in logbook/quantities.py, `id` names the profile in files and on the
    wire; it holds for UTC times in [valid_from_utc_ns, valid_to_utc_ns). Raises ProfileError if it cannot be a profile."""

    unit: str
    sensor: str
    id: str
    lines: dict[str, Line]
    valid_from_utc_ns: int = 0
    valid_to_utc_ns: int = FOR_EVER_NS

    def __post_init__(self) -> None:
        if not (self.unit and self.sensor and self.id):
            raise ProfileError("a profile needs unit, sensor and id")
        if self.valid_from_utc_ns >= self.valid_to_utc_ns:
            raise ProfileError(f"profile {self.id}: valid to is not after valid from")
        for quantity, line in self.lines.items():
            if quantity not in BY_ID or BY_ID[quantity].sensor != self.sensor:
                raise ProfileError(f"profile {self.id}: {self.sensor} does not measure {quantity!r}")
            if not (math.isfinite(line.scale) and math.isfinite(line.offset)) or line.scale == 0:
                raise ProfileError(f"profile {self.id}: {quantity}: scale and offset must be finite, scale not 0")


class Calibrated(NamedTuple):
    """Values after `apply`: a number or the reason why there is none, and which of them a profile has corrected."""

    values: dict[str, float | str]
    profile: str
    corrected: frozenset[str]


def applicable(profiles: Iterable[Profile], unit: str, sensor: str, utc_ns: int) -> Profile | None:
    """The profile of this unit's sensor that holds at `utc_ns` (the one valid from the latest moment), or None.

    Without UTC (0) only a profile that is valid from the beginning holds: nobody can tell whether another one does yet."""
    holding = [
        profile
        for profile in profiles
        if profile.unit == unit and profile.sensor == sensor and profile.valid_from_utc_ns <= utc_ns < profile.valid_to_utc_ns
    ]
    return max(holding, key=lambda profile: profile.valid_from_utc_ns, default=None)


def apply(profile: Profile | None, values: Mapping[str, float | str]) -> Calibrated:
    """`values` (SI, or a reason) corrected by `profile`; without one, or for a quantity it has no line for, as they are.

    A reason stays a reason: a profile never makes a number out of nothing."""
    if profile is None:
        return Calibrated(dict(values), "", frozenset())
    corrected = {
        quantity: value * profile.lines[quantity].scale + profile.lines[quantity].offset
        for quantity, value in values.items()
        if not isinstance(value, str) and quantity in profile.lines
    }
    return Calibrated({**values, **corrected}, profile.id, frozenset(corrected))
