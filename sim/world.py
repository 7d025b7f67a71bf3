"""One truth: every physical quantity at the truck, as a pure function of time since the start of the simulation.

Motion comes from the round (`sim/route.py`); acceleration and angular rate are its derivatives in the body frame (x forward, y left, z
up; specific force, so a level truck at rest reads z = +9.80665 m/s²) plus the vibration of engine and road; the magnetic field is the
Earth's at Fujisawa turned into the body frame plus the iron of the body; light follows the real sun, clouds and the shade of houses;
PM2.5 is a plume from one place on the wind, over a background. Nothing here depends on when or how often it is asked.

Left out: the tilt that belongs to the vibration's angular rates (below 0.05°), and the suspension's lean in turns.
"""

import math
import random

from sim import houses, sun
from sim.route import REFERENCE, Motion, Route, to_degrees

GRAVITY = 9.80665  # m/s²

# Geomagnetic field at Fujisawa (about World Magnetic Model 2025): total, inclination (down), declination (east).
FIELD, INCLINATION, DECLINATION = 46.4e-6, math.radians(49.4), math.radians(-7.8)
_LEVEL = FIELD * math.cos(INCLINATION)
FIELD_NORTH, FIELD_EAST, FIELD_UP = _LEVEL * math.cos(DECLINATION), _LEVEL * math.sin(DECLINATION), -FIELD * math.sin(INCLINATION)
HARD_IRON = (14.0e-6, -6.5e-6, 21.0e-6)  # T, body frame: what a steel truck adds; a calibration must find it

STANDING_BELOW = 0.05  # m/s

# Vibration: (frequency Hz, amplitude m/s² on x y z). The engine idles at 750/min: 4 cylinders fire 25 times a second.
IDLE = ((25.0, (0.05, 0.04, 0.10)), (12.5, (0.02, 0.03, 0.03)))
ROAD_FREQUENCIES = (5.3, 7.1, 9.7, 12.9, 16.7, 21.1, 27.7, 33.1, 39.7)  # Hz, below half of the IMU's 102 Hz
ROAD_AMPLITUDE = (0.16, 0.20, 0.34)  # m/s² of each at ROAD_SPEED, falling with frequency
ROAD_RATES = (0.010, 0.012, 0.005)  # rad/s of each, x y z
ROAD_SPEED = 8.0  # m/s
BUMP_EVERY, BUMP_WIDTH, BUMP_HEIGHT = 19.0, 0.35, 3.5  # m, m, m/s² at 5 m/s

DIFFUSER = 0.6  # light let through by the window over the light sensors (it keeps full sun below the OPT3001's 83.9 klx)
STREET_LIGHT = 6.0  # lx at the sensor between lamps

PLUME_PLACE = (150.0, 60.0)  # m east and north of the reference: a workshop with a stove
PLUME_SOURCE = 2.4e-5  # kg/s·(s/m): emission over wind speed and a constant of the Gaussian plume, chosen for a 60 µg/m³ street
BACKGROUND = 9e-9  # kg/m³

# SPS30: mass up to size x and number up to size x, relative to PM2.5 (fine urban aerosol, typical size 0.55 µm).
MASS = {"pm1": 0.80, "pm4": 1.12, "pm10": 1.18}
PARTICLES_PER_KG = {"0_5": 5.6e15, "1": 6.7e15, "2_5": 6.9e15, "4": 6.92e15, "10": 6.93e15}
# PMS5003: number above size x, of the same aerosol.
ABOVE_PER_KG = {"0_3": 3.9e15, "0_5": 1.33e15, "1": 0.23e15, "2_5": 0.03e15, "5": 0.006e15, "10": 0.001e15}

_DAY_S = 86_400.0
_YEAR_S = 365.2425 * _DAY_S


class World:
    """The world of `seed`, whose time 0 is `start_utc_ns`. With `solar_hour` (0 to 24, local mean solar time) its day, that is sun and
    warmth, begins at that hour whatever the clock says: a demo at night still has ultraviolet light to measure."""

    def __init__(self, seed: int = 1, start_utc_ns: int = 1_780_000_000_000_000_000, solar_hour: float | None = None) -> None:
        self.seed = seed
        self.start_utc_ns = start_utc_ns
        self.day_start_ns = start_utc_ns
        if solar_hour is not None:
            now_s = (start_utc_ns / 1e9 + REFERENCE[1] / 360 * _DAY_S) % _DAY_S
            self.day_start_ns += round((solar_hour * 3600 - now_s) * 1e9)
        self.route = Route(seed)
        choice = random.Random(seed * 7919 + 1)
        turn = 2 * math.pi
        self._phase = [choice.uniform(0, turn) for _ in range(8)]
        self._idle = [(turn * hertz, tuple((amplitude, choice.uniform(0, turn)) for amplitude in amplitudes)) for hertz, amplitudes in IDLE]
        self._road = [
            (turn * hertz * choice.uniform(0.97, 1.0), [choice.uniform(0, turn) for _ in range(6)], (5.3 / hertz) ** 0.7)
            for hertz in ROAD_FREQUENCIES
        ]
        self._wind = choice.uniform(0, turn)

    def motion(self, t_us: int) -> Motion:
        """The truck's motion, without vibration."""
        return self.route.motion(max(t_us, 0) / 1e6)

    def at(self, t_us: int) -> dict[str, float]:
        """Every quantity of logbook/quantities.py in its SI unit at `t_us` (µs of simulated time), and besides: `standing` (0 or 1),
        `distance` (m driven), `along` (m, the place in the round), `sun_elevation` (rad). About 30 µs of CPU."""
        seconds = max(t_us, 0) / 1e6
        motion = self.route.motion(seconds)
        latitude, longitude = to_degrees(motion.x, motion.y)
        values = {
            "latitude": latitude,
            "longitude": longitude,
            "altitude": motion.height,
            "speed": motion.speed,
            "bearing": motion.heading,
            "standing": 1.0 if motion.speed < STANDING_BELOW else 0.0,
            "distance": motion.distance,
            "along": motion.along,
        }
        self._inertial(values, motion, seconds)
        self._magnetic(values, motion)
        self._weather(values, motion, seconds)
        self._light(values, motion, seconds)
        self._particles(values, motion, seconds)
        return values

    def _inertial(self, values: dict[str, float], motion: Motion, seconds: float) -> None:
        """Specific force and angular rate in the body frame."""
        sin, cos = math.sin(motion.pitch), math.cos(motion.pitch)
        up = GRAVITY + motion.vertical_acceleration
        x = motion.acceleration * cos + up * sin
        y = -motion.speed * motion.yaw_rate  # to the right is -y
        z = up * cos - motion.acceleration * sin
        rate_x = -motion.yaw_rate * sin  # heading turns about the vertical, clockwise: -z, of which pitch gives x a share
        rate_y = -motion.pitch_rate  # nose up turns z towards -x: negative about the left axis
        rate_z = -motion.yaw_rate * cos
        for omega, axes in self._idle:
            angle = omega * seconds
            x += axes[0][0] * math.sin(angle + axes[0][1])
            y += axes[1][0] * math.sin(angle + axes[1][1])
            z += axes[2][0] * math.sin(angle + axes[2][1])
        if motion.speed:
            share = motion.speed / ROAD_SPEED
            for omega, phases, fall in self._road:
                angle, size = omega * seconds, share * fall
                x += ROAD_AMPLITUDE[0] * size * math.sin(angle + phases[0])
                y += ROAD_AMPLITUDE[1] * size * math.sin(angle + phases[1])
                z += ROAD_AMPLITUDE[2] * size * math.sin(angle + phases[2])
                rate_x += ROAD_RATES[0] * size * math.sin(angle + phases[3])
                rate_y += ROAD_RATES[1] * size * math.sin(angle + phases[4])
                rate_z += ROAD_RATES[2] * size * math.sin(angle + phases[5])
            z += self.bump(motion)
        values["acceleration_x"], values["acceleration_y"], values["acceleration_z"] = x, y, z
        values["angular_rate_x"], values["angular_rate_y"], values["angular_rate_z"] = rate_x, rate_y, rate_z

    def bump(self, motion: Motion) -> float:
        """Vertical acceleration over a manhole cover or a patch: a Ricker wavelet along the road, growing with speed squared."""
        cell, within = divmod(motion.along, BUMP_EVERY)
        offset = (within - BUMP_EVERY * (0.2 + 0.6 * houses.chance(int(cell), self.seed))) / BUMP_WIDTH
        if abs(offset) > 5:
            return 0.0
        return BUMP_HEIGHT * (motion.speed / 5) ** 2 * (1 - offset * offset) * math.exp(-offset * offset / 2)

    def _magnetic(self, values: dict[str, float], motion: Motion) -> None:
        """Earth's field in the body frame plus hard iron."""
        sin, cos = math.sin(motion.heading), math.cos(motion.heading)
        tilt_sin, tilt_cos = math.sin(motion.pitch), math.cos(motion.pitch)
        ahead = FIELD_EAST * sin + FIELD_NORTH * cos
        values["magnetic_field_x"] = ahead * tilt_cos + FIELD_UP * tilt_sin + HARD_IRON[0]
        values["magnetic_field_y"] = -FIELD_EAST * cos + FIELD_NORTH * sin + HARD_IRON[1]
        values["magnetic_field_z"] = FIELD_UP * tilt_cos - ahead * tilt_sin + HARD_IRON[2]

    def _slow(self, seconds: float, period: float, which: int) -> float:
        """A wave of the given period (s), -1 to 1: weather without jumps."""
        return math.sin(2 * math.pi * seconds / period + self._phase[which])

    def _weather(self, values: dict[str, float], motion: Motion, seconds: float) -> None:
        """Pressure at the truck's height (international barometric formula), air temperature, humidity from a dew point (Magnus)."""
        utc = self.day_start_ns / 1e9 + seconds
        season = math.cos(2 * math.pi * (utc / _YEAR_S - 0.60))  # warmest about 8 August, Fujisawa 6 °C to 27 °C
        hour = math.cos(2 * math.pi * (utc / _DAY_S + REFERENCE[1] / 360 - 14.0 / 24))  # warmest at 14 h of local solar time
        celsius = 16.5 + 10.0 * season + 3.2 * hour + 0.15 * self._slow(seconds, 97.0, 0) - 0.0065 * motion.height
        dew = 12.0 + 10.5 * season - 3.0 + 0.3 * self._slow(seconds, 411.0, 1)
        humidity = 100 * math.exp(17.62 * dew / (243.12 + dew) - 17.62 * celsius / (243.12 + celsius))
        sea_level = 101_325.0 + 550.0 * self._slow(seconds, 5.3 * _DAY_S, 2) + 1.5 * self._slow(seconds, 61.0, 3)
        gust = 2.0 * self._slow(seconds, 3.7, 4) * motion.speed / ROAD_SPEED
        values["pressure"] = sea_level * (1 - 0.0065 * motion.height / 288.15) ** 5.25588 + gust
        values["temperature"] = celsius + 273.15
        values["humidity"] = min(98.0, max(5.0, humidity))
        values["temperature_barometer"] = celsius + 273.15 + 3.8  # inside the box
        values["temperature_uv"] = celsius + 273.15 + 2.6
        values["temperature_imu"] = celsius + 273.15 + 5.2  # the die beside its own clock

    def _light(self, values: dict[str, float], motion: Motion, seconds: float) -> None:
        """Illuminance and ultraviolet under the window."""
        utc_ns = self.day_start_ns + round(seconds * 1e9)
        elevation, azimuth = sun.position(utc_ns, values["latitude"], values["longitude"])
        clear = sun.light(elevation)
        cloud = 0.78 + 0.22 * self._slow(seconds, 530.0, 5) * self._slow(seconds, 173.0, 6)  # 0.56 to 1 of the beam
        beam = cloud * (1 - 0.97 * houses.shade(motion.along, motion.heading, elevation, azimuth))
        lamps = STREET_LIGHT * (1.4 + math.cos(2 * math.pi * motion.along / 30.0)) if elevation < -0.03 else 0.0  # a lamp every 30 m
        values["sun_elevation"] = elevation
        values["illuminance"] = DIFFUSER * (clear.direct * beam + clear.diffuse) + lamps
        values["uva"] = DIFFUSER * (clear.uva_direct * beam + clear.uva_diffuse)
        values["uvb"] = DIFFUSER * clear.uvb * (0.4 + 0.6 * beam)
        values["uvc"] = 0.0  # none reaches the ground

    def _particles(self, values: dict[str, float], motion: Motion, seconds: float) -> None:
        """A Gaussian plume at ground level from PLUME_PLACE on a wind that swings by 20°, over a slowly changing background."""
        wind = self._wind + 0.35 * self._slow(seconds, 233.0, 7)  # where it blows to
        east, north = motion.x - PLUME_PLACE[0], motion.y - PLUME_PLACE[1]
        down = east * math.sin(wind) + north * math.cos(wind)
        plume = 0.0
        if down > 1:
            across = east * math.cos(wind) - north * math.sin(wind)
            wide, high = 3 + 0.22 * down, 2 + 0.12 * down  # m, Pasquill class C in a town, from a chimney 4 m wide
            plume = PLUME_SOURCE * math.exp(-across * across / (2 * wide * wide)) / (wide * high)
        fine = BACKGROUND * (1 + 0.25 * self._slow(seconds, 1800.0, 0) + 0.06 * self._slow(seconds, 43.0, 1)) + plume
        values["pm2_5"] = fine
        for name, share in MASS.items():
            values[name] = fine * share
        for size, number in PARTICLES_PER_KG.items():
            values[f"particles_{size}"] = fine * number
        for size, number in ABOVE_PER_KG.items():
            values[f"particles_above_{size}"] = fine * number
        values["particle_size"] = 0.55e-6 + 0.05e-6 * plume / fine
