"""The houses along the round: one plot every 12 m on each side of the street. The world takes their shade from here and the camera
draws the same ones."""

import math
from typing import NamedTuple

PLOT = 12.0  # m of street front
FRONT = 6.0  # m from the middle of the street to the walls
LEFT, RIGHT = -1, 1


class House(NamedTuple):
    """What stands on a plot: metres from the start of the plot, height of the wall (0 = a garden), and a number 0-1 for looks."""

    begin: float
    end: float
    height: float
    looks: float


def chance(*numbers: int) -> float:
    """A number in [0, 1) that depends on nothing but `numbers` (integer hash with the multipliers of MurmurHash3's finaliser)."""
    value = 0x9E3779B9
    for number in numbers:
        value = (value ^ (number & 0xFFFFFFFF)) * 0x85EBCA6B & 0xFFFFFFFF
        value ^= value >> 13
        value = value * 0xC2B2AE35 & 0xFFFFFFFF
        value ^= value >> 16
    return value / 2**32


def house(side: int, plot: int) -> House:
    """The house on `plot` (counted along the round) of `side`."""
    kind = chance(plot, side, 1)
    height = 0.0 if kind < 0.18 else 4.2 if kind < 0.3 else 6.4 if kind < 0.85 else 9.6
    begin = 0.6 + 1.6 * chance(plot, side, 2)
    return House(begin, PLOT - 0.6 - 1.6 * chance(plot, side, 3), height, chance(plot, side, 4))


def shade(along: float, heading: float, elevation: float, azimuth: float) -> float:
    """How much of the sun's beam a house takes from the truck's roof (2.2 m), 0 to 1, smooth at the edges of walls and of shadows."""
    if elevation <= 0:
        return 1.0
    across = math.sin(azimuth - heading)
    side = RIGHT if across > 0 else LEFT
    reach = math.cos(azimuth - heading) / max(abs(across), 0.05) * FRONT  # the ray meets the row of houses that far ahead
    plot, within = divmod(along + max(-60.0, min(60.0, reach)), PLOT)
    wall = house(side, int(plot))
    if not wall.height:
        return 0.0
    edge = _step((within - wall.begin) / 0.4) * _step((wall.end - within) / 0.4)
    hidden = math.atan2((wall.height - 2.2) * max(abs(across), 0.05), FRONT)  # elevation up to which the wall hides the sun
    return edge * _step((hidden - elevation) / math.radians(1.5))


def _step(value: float) -> float:
    """0 below -1, 1 above 1, smooth between."""
    value = max(0.0, min(1.0, (value + 1) / 2))
    return value * value * (3 - 2 * value)
