"""Where the truck is and how it moves: a closed round of streets, driven door to door, as a pure function of time.

The round is a polygon of waypoints whose corners are rounded by turns of smooth curvature (raised cosine), so that heading, yaw rate
and lateral acceleration are continuous. Along it the truck drives from collection point to collection point: it accelerates and
brakes with raised-cosine acceleration (continuous, no jerk at the ends), cruises between, and stands while bins are emptied. After
the last point it is back at the first, and the round repeats: everything is periodic, therefore exact at any time without state.

The local plane is metres east (x) and north (y) of REFERENCE, on the WGS 84 radii there; within 1 km of it the error of that
projection is 1e-4 of a distance. Heights are those of a gentle hill country (plane waves), in metres above the sea.
"""

import math
import random
from bisect import bisect_right
from typing import NamedTuple

# An invented round through the streets north of Fujisawa station; corners only, closed, first corner reached first.
WAYPOINTS: tuple[tuple[float, float], ...] = (
    (35.34130, 139.48720), (35.34125, 139.48860), (35.33990, 139.48850), (35.33985, 139.48990), (35.34180, 139.49010),
    (35.34260, 139.49080), (35.34240, 139.49220), (35.34060, 139.49210), (35.34050, 139.49330), (35.33870, 139.49310),
    (35.33830, 139.49160), (35.33850, 139.48980), (35.33790, 139.48880), (35.33800, 139.48690),
)  # fmt: skip

REFERENCE = (35.34, 139.49)
_A, _E2 = 6378137.0, 0.00669437999014  # WGS 84: semi-major axis in m, eccentricity squared
_SIN = math.sin(math.radians(REFERENCE[0]))
METERS_PER_RADIAN_NORTH = _A * (1 - _E2) / (1 - _E2 * _SIN**2) ** 1.5
METERS_PER_RADIAN_EAST = _A / math.sqrt(1 - _E2 * _SIN**2) * math.cos(math.radians(REFERENCE[0]))

TURN_METERS_PER_RADIAN = 14.0  # length of a turn per radian: tightest radius 7 m, what a 2 t packer truck turns in comfortably
TURN_KNOTS = 64  # of the tabulated position in a turn: error of the cubic between them < 1e-6 m
LATERAL_LIMIT = 2.0  # m/s², which sets the speed in a leg that holds a turn
ACCELERATION, BRAKING = 1.6, 2.0  # m/s², the peaks
SPEED_COLLECTING, SPEED_TRANSIT = 6.5, 10.0  # m/s
FIRST_STAND = 2.0  # s, so that a short demo sees the truck move

# Hills: (amplitude m, wave length m, direction of the wave rad, phase).
HILLS = ((4.0, 620.0, 0.4, 0.3), (2.2, 410.0, 1.9, 1.1), (1.3, 270.0, 2.8, 2.0))
BASE_HEIGHT = 21.0


class Motion(NamedTuple):
    """The truck at one moment: metres, seconds, radians. `x`, `y` east and north of REFERENCE; `heading` clockwise from north;
    `curvature` and `yaw_rate` positive clockwise (to the right); `pitch` positive nose up; `distance` rises for ever, `along` is
    the place in the round."""

    distance: float
    along: float
    speed: float
    acceleration: float
    x: float
    y: float
    heading: float
    curvature: float
    yaw_rate: float
    height: float
    vertical_acceleration: float
    pitch: float
    pitch_rate: float


class _Turn(NamedTuple):
    angle: float  # signed, clockwise positive
    length: float
    knots: tuple[tuple[float, float], ...]  # positions (forward, right) in the frame of the turn's start, at equal steps


class _Piece(NamedTuple):
    start: float
    x: float
    y: float
    heading: float
    turn: _Turn | None


class _Leg(NamedTuple):
    start_time: float
    stand: float  # s standing before the drive
    start: float  # m along the round
    speed: float  # cruising, m/s
    accelerate: float  # s
    cruise: float
    brake: float
    length: float


def to_degrees(x: float, y: float) -> tuple[float, float]:
    """Latitude and longitude in degrees of the local point (m)."""
    return (REFERENCE[0] + math.degrees(y / METERS_PER_RADIAN_NORTH), REFERENCE[1] + math.degrees(x / METERS_PER_RADIAN_EAST))


def to_meters(latitude: float, longitude: float) -> tuple[float, float]:
    """Local metres east and north of the point (degrees)."""
    return (
        math.radians(longitude - REFERENCE[1]) * METERS_PER_RADIAN_EAST,
        math.radians(latitude - REFERENCE[0]) * METERS_PER_RADIAN_NORTH,
    )


def _turned(angle: float, fraction: float) -> float:
    """Heading gained after `fraction` of a turn's length: the integral of the raised cosine."""
    return angle * (fraction - math.sin(2 * math.pi * fraction) / (2 * math.pi))


def _turn(angle: float) -> _Turn:
    length = TURN_METERS_PER_RADIAN * abs(angle)
    step = length / TURN_KNOTS
    forward, right = 0.0, 0.0
    knots = [(forward, right)]
    for k in range(TURN_KNOTS):
        headings = [_turned(angle, (k + part) / TURN_KNOTS) for part in (0.0, 0.5, 1.0)]
        forward += step / 6 * (math.cos(headings[0]) + 4 * math.cos(headings[1]) + math.cos(headings[2]))  # Simpson
        right += step / 6 * (math.sin(headings[0]) + 4 * math.sin(headings[1]) + math.sin(headings[2]))
        knots.append((forward, right))
    return _Turn(angle, length, tuple(knots))


def _in_turn(turn: _Turn, at: float) -> tuple[float, float]:
    """Position (forward, right) `at` metres into the turn: cubic Hermite between the knots, with the true headings as slopes."""
    step = turn.length / TURN_KNOTS
    k = min(int(at / step), TURN_KNOTS - 1)
    u = at / step - k
    (f0, r0), (f1, r1) = turn.knots[k], turn.knots[k + 1]
    h0, h1 = _turned(turn.angle, k / TURN_KNOTS), _turned(turn.angle, (k + 1) / TURN_KNOTS)
    a, b, c, d = (1 + 2 * u) * (1 - u) ** 2, u * (1 - u) ** 2 * step, u * u * (3 - 2 * u), u * u * (u - 1) * step
    return (
        a * f0 + b * math.cos(h0) + c * f1 + d * math.cos(h1),
        a * r0 + b * math.sin(h0) + c * r1 + d * math.sin(h1),
    )


class Route:
    """The round and its timetable, made from `seed` (which doors have bins, how long emptying takes)."""

    def __init__(self, seed: int = 1, waypoints: tuple[tuple[float, float], ...] = WAYPOINTS) -> None:
        self._pieces, self.length = _pieces([to_meters(*point) for point in waypoints])
        self._starts = [piece.start for piece in self._pieces]
        self._legs, self.period = self._timetable(random.Random(seed))
        self._times = [leg.start_time for leg in self._legs]

    def place(self, along: float) -> tuple[float, float, float, float]:
        """(x, y, heading, curvature) at `along` metres of the round, 0 <= along < length."""
        piece = self._pieces[bisect_right(self._starts, along) - 1]
        into = along - piece.start
        sin, cos = math.sin(piece.heading), math.cos(piece.heading)
        if piece.turn is None:
            return piece.x + into * sin, piece.y + into * cos, piece.heading, 0.0
        forward, right = _in_turn(piece.turn, into)
        fraction = into / piece.turn.length
        return (
            piece.x + forward * sin + right * cos,
            piece.y + forward * cos - right * sin,
            piece.heading + _turned(piece.turn.angle, fraction),
            piece.turn.angle / piece.turn.length * (1 - math.cos(2 * math.pi * fraction)),
        )

    def motion(self, seconds: float) -> Motion:
        """The truck `seconds` after the start of its shift (>= 0)."""
        rounds, within = divmod(seconds, self.period)
        leg = self._legs[bisect_right(self._times, within) - 1]
        gone, speed, acceleration = _driven(leg, within - leg.start_time)
        along = leg.start + gone
        if along >= self.length:  # the last metre of the round, by rounding
            along -= self.length
            rounds += 1
        x, y, heading, curvature = self.place(along)
        height, slope, bend = _hills(x, y, heading, curvature)
        return Motion(
            rounds * self.length + along, along, speed, acceleration, x, y, heading % (2 * math.pi), curvature, speed * curvature,
            height, bend * speed * speed + slope * acceleration, math.atan(slope), bend * speed / (1 + slope * slope),
        )  # fmt: skip

    def _timetable(self, choice: random.Random) -> tuple[list[_Leg], float]:
        """Legs from stop to stop once round."""
        legs: list[_Leg] = []
        time, at, stand = 0.0, 0.0, FIRST_STAND
        while at < self.length:
            transit = choice.random() < 0.12
            end = self._free_of_turns(at + (choice.uniform(110, 180) if transit else choice.uniform(18, 55)))
            end = self.length if end > self.length - 25 else end
            fastest = min(SPEED_TRANSIT if transit else SPEED_COLLECTING, math.sqrt(LATERAL_LIMIT / max(self._sharpest(at, end), 1e-9)))
            length = end - at
            speed = min(fastest, math.sqrt(length / (1 / ACCELERATION + 1 / BRAKING)))
            accelerate, brake = 2 * speed / ACCELERATION, 2 * speed / BRAKING
            cruise = (length - speed * (accelerate + brake) / 2) / speed
            legs.append(_Leg(time, stand, at, speed, accelerate, cruise, brake, length))
            time += stand + accelerate + cruise + brake
            at, stand = end, choice.uniform(5, 18)
        return legs, time

    def _free_of_turns(self, along: float) -> float:
        """`along`, moved behind the turn it would lie in: no truck stops in a crossing."""
        if along >= self.length:
            return along
        piece = self._pieces[bisect_right(self._starts, along) - 1]
        return piece.start + piece.turn.length + 3 if piece.turn else along

    def _sharpest(self, start: float, end: float) -> float:
        """Largest curvature (1/m) between two places of the round."""
        turns = [piece.turn for piece in self._pieces if piece.turn and piece.start < end and piece.start + piece.turn.length > start]
        return max((2 * abs(turn.angle) / turn.length for turn in turns), default=0.0)


def _pieces(corners: list[tuple[float, float]]) -> tuple[list[_Piece], float]:
    """Straights and turns of the closed polygon, from the middle of the leg that leads to the first corner."""
    count = len(corners)
    first, last = corners[0], corners[-1]
    x, y = (first[0] + last[0]) / 2, (first[1] + last[1]) / 2
    pieces: list[_Piece] = []
    start = 0.0
    for k in range(count):
        corner, after = corners[k], corners[(k + 1) % count]
        heading = math.atan2(corner[0] - x, corner[1] - y)
        angle = math.remainder(math.atan2(after[0] - corner[0], after[1] - corner[1]) - heading, 2 * math.pi)
        turn = _turn(angle)
        forward, right = turn.knots[-1]
        tangent = math.hypot(forward, right) / 2 / math.cos(angle / 2)  # from the corner to both ends of the turn
        straight = math.hypot(corner[0] - x, corner[1] - y) - tangent
        if straight <= 0:
            raise ValueError(f"waypoint {k}: the turn does not fit between its neighbours")
        pieces.append(_Piece(start, x, y, heading, None))
        start += straight
        x, y = x + straight * math.sin(heading), y + straight * math.cos(heading)
        pieces.append(_Piece(start, x, y, heading, turn))
        start += turn.length
        x += forward * math.sin(heading) + right * math.cos(heading)
        y += forward * math.cos(heading) - right * math.sin(heading)
    heading = math.atan2(first[0] - last[0], first[1] - last[1])
    pieces.append(_Piece(start, x, y, heading, None))
    return pieces, start + math.hypot((first[0] + last[0]) / 2 - x, (first[1] + last[1]) / 2 - y)


def _driven(leg: _Leg, time: float) -> tuple[float, float, float]:
    """(distance, speed, acceleration) `time` seconds into the leg: stand, accelerate, cruise, brake."""
    time -= leg.stand
    if time <= 0:
        return 0.0, 0.0, 0.0
    if time < leg.accelerate:
        return _raised(ACCELERATION, leg.accelerate, time)
    time -= leg.accelerate
    speeding_up = leg.speed * leg.accelerate / 2
    if time < leg.cruise:
        return speeding_up + leg.speed * time, leg.speed, 0.0
    time -= leg.cruise
    if time < leg.brake:  # braking is speeding up, run backwards from the end
        distance, speed, acceleration = _raised(BRAKING, leg.brake, leg.brake - time)
        return leg.length - distance, speed, -acceleration
    return leg.length, 0.0, 0.0


def _raised(peak: float, duration: float, time: float) -> tuple[float, float, float]:
    """Distance, speed, acceleration under a raised cosine of acceleration that lasts `duration`."""
    turn = 2 * math.pi / duration
    sin, cos = math.sin(turn * time), math.cos(turn * time)
    return peak / 2 * (time * time / 2 + (cos - 1) / turn**2), peak / 2 * (time - sin / turn), peak / 2 * (1 - cos)


_WAVES = tuple(
    (amplitude, 2 * math.pi / length * math.sin(direction), 2 * math.pi / length * math.cos(direction), phase)
    for amplitude, length, direction, phase in HILLS
)


def _hills(x: float, y: float, heading: float, curvature: float) -> tuple[float, float, float]:
    """Height (m), slope along the heading, and second derivative along the curved path (1/m)."""
    height, slope, bend = BASE_HEIGHT, 0.0, 0.0
    east, north = math.sin(heading), math.cos(heading)
    for amplitude, kx, ky, phase in _WAVES:
        argument = kx * x + ky * y + phase
        sin, cos = math.sin(argument), math.cos(argument)
        along, across = kx * east + ky * north, kx * north - ky * east
        height += amplitude * sin
        slope += amplitude * cos * along
        bend += amplitude * (cos * across * curvature - sin * along * along)
    return height, slope, bend
