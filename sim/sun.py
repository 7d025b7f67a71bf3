"""Where the sun is and how much light it gives: the low-precision solar coordinates of the Astronomical Almanac (page C5; 0.01° from
1950 to 2050) and a clear-sky model of illuminance, UV-A and UV-B on a level surface."""

import math
from typing import NamedTuple

J2000_NS = 946_728_000_000_000_000  # 2000-01-01 12:00 UTC, in ns since 1970
DAY_NS = 86_400_000_000_000


class Light(NamedTuple):
    """Clear-sky light on a level surface: direct and diffuse illuminance (lx), direct and diffuse UV-A and UV-B (W/m²)."""

    direct: float
    diffuse: float
    uva_direct: float
    uva_diffuse: float
    uvb: float


def position(utc_ns: int, latitude: float, longitude: float) -> tuple[float, float]:
    """(elevation, azimuth clockwise from north) in rad of the sun's centre, without refraction; latitude, longitude in degrees."""
    days = (utc_ns - J2000_NS) / DAY_NS
    mean = math.radians(280.460 + 0.9856474 * days)
    anomaly = math.radians(357.528 + 0.9856003 * days)
    ecliptic = mean + math.radians(1.915) * math.sin(anomaly) + math.radians(0.020) * math.sin(2 * anomaly)
    obliquity = math.radians(23.439 - 0.0000004 * days)
    ascension = math.atan2(math.cos(obliquity) * math.sin(ecliptic), math.cos(ecliptic))
    declination = math.asin(math.sin(obliquity) * math.sin(ecliptic))
    sidereal = math.radians(280.46062 + 360.98564737 * days)  # Greenwich
    hour = sidereal + math.radians(longitude) - ascension
    phi = math.radians(latitude)
    up = math.sin(phi) * math.sin(declination) + math.cos(phi) * math.cos(declination) * math.cos(hour)
    east = -math.cos(declination) * math.sin(hour)
    north = math.cos(phi) * math.sin(declination) - math.sin(phi) * math.cos(declination) * math.cos(hour)
    return math.asin(max(-1.0, min(1.0, up))), math.atan2(east, north) % (2 * math.pi)


def light(elevation: float) -> Light:
    """Clear-sky light at the sun's `elevation` (rad). Illuminance: beam 133.8 klx at the top of the air with extinction 0.21 per air
    mass, sky 0.8 klx + 15.5 klx sqrt(sin) (IES clear sky); UV-A 5-6 % of the sun's power, about half of it diffuse; UV-B about 1/20 of
    UV-A with a steeper fall. Below the horizon twilight falls by e per 1.1°."""
    sin = math.sin(elevation)
    if sin <= 0:
        return Light(0.0, 800.0 * math.exp(math.degrees(elevation) / 1.1), 0.0, 0.0, 0.0)
    mass = 1 / (sin + 0.50572 * (math.degrees(elevation) + 6.07995) ** -1.6364)  # Kasten and Young 1989
    direct = 133_800.0 * math.exp(-0.21 * mass) * sin
    uva = 78.0 * math.exp(-0.32 * mass) * sin
    return Light(direct, 800.0 + 15_500.0 * math.sqrt(sin), uva * 0.5, uva * 0.5, 5.2 * math.exp(-0.75 * mass) * sin)
