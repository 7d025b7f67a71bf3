"""Draws what the camera of the truck sees: the street with its worn markings and kerbs, the houses of `sim/houses.py`, poles and wires,
and the sky, all by the height of the sun, from the place of the truck.

A pinhole camera looks straight ahead from the roof of the cab: a point `x` m to the right, `y` m up and `z` m ahead is at column
CENTER + FOCAL·x/z and row HORIZON + FOCAL·(EYE - y)/z. The ground is a texture seen from above that repeats every PERIOD m; it is drawn
once, and a frame is a window of it through a fixed perspective map. Houses are a few polygons each. About 10 ms of CPU a frame.
"""

import math

import cv2
import numpy as np

from sim.houses import FRONT, LEFT, PLOT, RIGHT, House, chance, house

WIDTH, HEIGHT = 1280, 720
FOCAL, CENTER, HORIZON, EYE = 900.0, 640.0, 300, 2.2  # px, px, row, m
PERIOD = 48.0  # m of the ground texture
HALF_WIDTH = 9.0  # m of ground to each side of the middle
NEAR_SCALE, FAR_SCALE = 48, 12  # px/m of the ground texture up to SPLIT m and beyond
NEAREST, SPLIT, FARTHEST = 4.5, 18.0, 88.0  # m ahead
POLE_EVERY, POLE_AT, POLE_HEIGHT = 24.0, -4.7, 8.6  # m
WALLS = ((206, 216, 222), (188, 200, 205), (172, 190, 214), (214, 214, 206), (150, 168, 182), (196, 188, 176))  # BGR by day

Color = tuple[float, float, float]
Image = np.ndarray  # height x width x 3, uint8, BGR


class Picture:
    """Renders frames of the street; `seed` makes its asphalt."""

    def __init__(self, seed: int = 1) -> None:
        noise = np.random.default_rng(seed)
        near = _ground(noise)
        far = cv2.resize(near, None, fx=FAR_SCALE / NEAR_SCALE, fy=FAR_SCALE / NEAR_SCALE, interpolation=cv2.INTER_AREA)
        self._near = _repeated(near, SPLIT, NEAR_SCALE)
        self._far = _repeated(far, FARTHEST, FAR_SCALE)
        split = math.floor(FOCAL * EYE / SPLIT)  # rows below the horizon
        last = math.ceil(FOCAL * EYE / FARTHEST)
        self._near_maps = _maps(split, HEIGHT - HORIZON, SPLIT, NEAR_SCALE)
        self._far_maps = _maps(last, split, FARTHEST, FAR_SCALE)
        self._split, self._last = HORIZON + split, HORIZON + last
        self._clouds = _clouds(noise)
        self._skyline = [(chance(k, seed, 5), chance(k, seed, 6)) for k in range(64)]
        self._prepared: dict[int, tuple[Image, Image, Color]] = {}

    def render(self, along: float, heading: float, sun_elevation: float) -> Image:
        """The frame at `along` m of the street, looking to `heading` (rad; it moves the far roofs only), under the sun at `sun_elevation`
        (rad)."""
        sky, lamp, tone = self._light(sun_elevation)
        image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
        image[:HORIZON] = sky
        image[HORIZON : self._last] = _toned((128, 130, 132), tone)
        self._distance(image, heading, tone)
        offset = along % PERIOD
        _lay(image[self._last : self._split], self._far, self._far_maps, offset, FARTHEST, FAR_SCALE)
        _lay(image[self._split :], self._near, self._near_maps, offset, SPLIT, NEAR_SCALE)
        cv2.multiply(image[self._last :], lamp[self._last - HORIZON :], image[self._last :], scale=1 / 255)
        night = sun_elevation < math.radians(-3)
        for plot in range(int((along + FARTHEST) // PLOT), int(along // PLOT) - 1, -1):  # painter: farthest first
            for side in (LEFT, RIGHT):
                self._house(image, house(side, plot), side, plot, plot * PLOT - along, tone, night)
        self._poles(image, along, tone, night)
        return image

    def _light(self, elevation: float) -> tuple[Image, Image, Color]:
        """Sky, light on the ground rows, and tone of everything else for the sun's elevation, made once per degree."""
        degree = max(-12, min(60, round(math.degrees(elevation))))
        if degree not in self._prepared:
            self._prepared[degree] = (_sky(degree, self._clouds), _lamp(degree), _tone(degree))
        return self._prepared[degree]

    def _distance(self, image: Image, heading: float, tone: Color) -> None:
        """Roofs far away, which pan as the truck turns."""
        pan = heading / (2 * math.pi) * len(self._skyline)
        haze = _toned((168, 170, 166), tone)
        for k in range(-7, 9):
            width, height = self._skyline[int(pan + k) % len(self._skyline)]
            left = CENTER + (k - pan % 1) * 100
            cv2.rectangle(image, (int(left), int(HORIZON - 8 - 26 * height)), (int(left + 60 + 60 * width), self._last), haze, -1)

    def _house(self, image: Image, what: House, side: int, plot: int, start: float, tone: Color, night: bool) -> None:
        """One plot: the wall along the street, the gable end towards us, windows; or a hedge with a tree."""
        begin, end = max(start + what.begin, 1.2), start + what.end
        if end <= begin or begin > FARTHEST:
            return
        haze = min(1.0, max(0.0, (begin - 15) / 90))
        front = side * FRONT
        if not what.height:
            green = _hazed((58, 104, 74), haze, tone)
            _polygon(image, [(front, 0, begin), (front, 0, end), (front, 1.3, end), (front, 1.3, begin)], green)
            x, y, z = side * (FRONT + 2.5), 3.4, start + (what.begin + what.end) / 2
            if z > 3:
                size = int(FOCAL * 1.9 / z)
                _polygon(
                    image, [(x - 0.15, 0, z), (x + 0.15, 0, z), (x + 0.15, 2.4, z), (x - 0.15, 2.4, z)], _hazed((62, 74, 88), haze, tone)
                )
                for dx, dy, share in ((0, 0, 1.0), (-0.5, -0.3, 0.7), (0.55, -0.2, 0.75), (0.1, 0.6, 0.7)):
                    middle = (int(CENTER + FOCAL * x / z + size * dx), int(HORIZON + FOCAL * (EYE - y) / z - size * dy))
                    shade = 0.85 + 0.2 * dy
                    cv2.circle(image, middle, int(size * share), _hazed((52 * shade, 112 * shade, 78 * shade), haze, tone), -1, cv2.LINE_AA)
            return
        wall = WALLS[int(what.looks * len(WALLS))]
        back = side * (FRONT + 8)
        ridge = side * (FRONT + 4)
        if start + what.begin > 1.2:
            gable = [
                (front, 0, begin),
                (back, 0, begin),
                (back, what.height, begin),
                (ridge, what.height + 1.7, begin),
                (front, what.height, begin),
            ]
            _polygon(image, gable, _hazed((wall[0] * 0.72, wall[1] * 0.72, wall[2] * 0.74), haze, tone))
        _polygon(
            image, [(front, 0, begin), (front, 0, end), (front, what.height, end), (front, what.height, begin)], _hazed(wall, haze, tone)
        )
        eave = (front, what.height, begin), (front, what.height, end), (front, what.height + 0.28, end), (front, what.height + 0.28, begin)
        _polygon(image, list(eave), _hazed((84, 82, 92), haze, tone))
        base = [(front, 0, begin), (front, 0, end), (front, 0.5, end), (front, 0.5, begin)]
        _polygon(image, base, _hazed((128, 132, 134), haze, tone))
        if begin < 60:
            self._windows(image, what, front, plot, start, haze, tone, night)

    def _windows(self, image: Image, what: House, front: float, plot: int, start: float, haze: float, tone: Color, night: bool) -> None:
        """Two windows a floor, a door at the street; some windows are lit at night."""
        side = 1 if front > 0 else 2
        glass = _hazed((118, 100, 84), haze, tone)
        for floor in range(int(what.height // 2.9)):
            for k in range(2):
                left = start + what.begin + (0.16 + 0.44 * k) * (what.end - what.begin)
                right = left + 0.24 * (what.end - what.begin)
                bottom, top = 0.9 + 2.8 * floor, 2.2 + 2.8 * floor
                door = floor == 0 and k == (plot & 1)
                bottom, top = (0.0, 2.1) if door else (bottom, top)
                if left < 1.5:
                    continue
                lit = night and not door and chance(plot, floor, k, side) < 0.45
                color = (120, 200, 240) if lit else _hazed((70, 84, 104), haze, tone) if door else glass
                frame = [(front, bottom - 0.08, left - 0.08), (front, bottom - 0.08, right + 0.08)]
                frame += [(front, top + 0.08, right + 0.08), (front, top + 0.08, left - 0.08)]
                _polygon(image, frame, _hazed((226, 228, 228), haze, tone))
                _polygon(image, [(front, bottom, left), (front, bottom, right), (front, top, right), (front, top, left)], color)

    def _poles(self, image: Image, along: float, tone: Color, night: bool) -> None:
        """Concrete poles on the left with three wires, and a lamp on each, as in any Japanese street."""
        last = int((along + FARTHEST) // POLE_EVERY)
        first = int(along // POLE_EVERY)
        for k in range(last, first, -1):
            z = k * POLE_EVERY - along
            if z < 2:
                continue
            haze = min(1.0, max(0.0, (z - 15) / 90))
            color = _hazed((140, 146, 148), haze, tone)
            half = 0.16
            pole = [
                (POLE_AT - half, 0, z),
                (POLE_AT + half, 0, z),
                (POLE_AT + half * 0.7, POLE_HEIGHT, z),
                (POLE_AT - half * 0.7, POLE_HEIGHT, z),
            ]
            _polygon(image, pole, color)
            _polygon(image, [(POLE_AT - 0.9, 7.9, z), (POLE_AT + 0.9, 7.9, z), (POLE_AT + 0.9, 8.05, z), (POLE_AT - 0.9, 8.05, z)], color)
            _polygon(image, [(POLE_AT, 5.4, z), (POLE_AT + 1.3, 5.6, z), (POLE_AT + 1.3, 5.7, z), (POLE_AT, 5.5, z)], color)
            if night:
                at = (int(CENTER + FOCAL * (POLE_AT + 1.3) / z), int(HORIZON + FOCAL * (EYE - 5.55) / z))
                cv2.circle(image, at, max(2, int(FOCAL * 0.16 / z)), (190, 235, 255), -1, cv2.LINE_AA)
        wire = _toned((52, 50, 50), tone)
        for dx, y in ((-0.8, 8.0), (0.8, 8.0), (0.0, 6.6)):
            points = []
            for step in range(int((FARTHEST + POLE_EVERY) / 4)):
                z = step * 4 + 2.5
                sag = ((along + z) / POLE_EVERY) % 1
                points.append(_project(POLE_AT + dx, y - 1.6 * sag * (1 - sag), z))
            cv2.polylines(image, [np.array(points, np.int32)], False, wire, 1, cv2.LINE_AA)


def _project(x: float, y: float, z: float) -> tuple[float, float]:
    return CENTER + FOCAL * x / z, HORIZON + FOCAL * (EYE - y) / z


def _polygon(image: Image, corners: list[tuple[float, float, float]], color: Color) -> None:
    cv2.fillConvexPoly(image, np.array([_project(*corner) for corner in corners]).round().astype(np.int32), color, cv2.LINE_AA)


def _toned(color: Color, tone: Color) -> Color:
    return color[0] * tone[0], color[1] * tone[1], color[2] * tone[2]


def _hazed(color: Color, haze: float, tone: Color) -> Color:
    """`color` towards the grey of the air with distance, under `tone`."""
    clear = 1 - haze
    return _toned((color[0] * clear + 176 * haze, color[1] * clear + 176 * haze, color[2] * clear + 172 * haze), tone)


def _tone(degree: int) -> Color:
    """How much of blue, green and red the air lets to the street: white by day, red at the horizon, a little blue at night."""
    day = 1 / (1 + math.exp(-(degree + 1.0) / 2.2))
    low = math.exp(-(((degree - 2) / 6) ** 2))
    return 0.15 + day * (0.85 - 0.30 * low), 0.12 + day * (0.88 - 0.16 * low), 0.10 + day * (0.90 - 0.05 * low)


def _lamp(degree: int) -> Image:
    """The light on every ground pixel: `_tone`, and the truck's own lamps at night."""
    rows, columns = np.mgrid[0 : HEIGHT - HORIZON, 0:WIDTH].astype(np.float32)
    z = FOCAL * EYE / (rows + 1)
    x = (columns - CENTER) * z / FOCAL
    dark = 1 - 1 / (1 + math.exp(-(degree + 1.0) / 2.2))
    cone = dark * 0.75 * np.exp(-((x / (1.6 + 0.16 * z)) ** 2)) * np.exp(-((np.maximum(z - 9, 0) / 17) ** 2))
    light = np.stack([tone + share * cone for tone, share in zip(_tone(degree), (0.78, 0.9, 1.0), strict=True)], axis=-1)
    return (np.clip(light, 0, 1) * 255).astype(np.uint8)


def _sky(degree: int, clouds: np.ndarray) -> Image:
    """The sky above the horizon with `clouds` (share of white, HORIZON x WIDTH)."""
    day = 1 / (1 + math.exp(-(degree + 1.0) / 2.2))
    low = math.exp(-(((degree - 1) / 7) ** 2))
    up = np.linspace(1, 0, HORIZON)[:, None, None]  # 1 at the top
    top = np.array([40 + 168 * day, 24 + 120 * day, 16 + 72 * day])
    bottom = np.array([52 + 178 * day - 90 * low * day, 38 + 184 * day - 46 * low * day, 34 + 180 * day + 20 * low * day])
    sky = bottom + (top - bottom) * up**0.7
    white = np.array([238, 238, 240]) * (0.12 + 0.88 * day) - np.array([70, 40, 0]) * low * day
    cloud = clouds[:, :, None]
    return np.clip(sky * (1 - cloud) + white * cloud, 0, 255).astype(np.uint8)


def _smooth(noise: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """Smooth noise, 0 to 1, `cells` random numbers spread over `shape`; its first and last rows meet."""
    small = noise.random(cells, dtype=np.float32)
    wrapped = np.vstack([small[-2:], small, small[:2]])
    tall = cv2.resize(wrapped, (shape[1], round(shape[0] * (cells[0] + 4) / cells[0])), interpolation=cv2.INTER_CUBIC)
    skip = round(shape[0] * 2 / cells[0])
    return np.clip(tall[skip : skip + shape[0]], 0, 1)


def _clouds(noise: np.random.Generator) -> np.ndarray:
    shape = (HORIZON, WIDTH)
    puffs = sum(_smooth(noise, shape, (4 * 2**k, 6 * 2**k)) / 2**k for k in range(5))
    return np.clip((np.asarray(puffs) / 1.94 - 0.52) * 4.2, 0, 1) * np.linspace(1, 0.35, HORIZON)[:, None] * 0.85


def _ground(noise: np.random.Generator) -> Image:
    """The street from above, PERIOD m long (row 0 is nearest to its start), HALF_WIDTH m to each side."""
    rows, columns = round(PERIOD * NEAR_SCALE), round(2 * HALF_WIDTH * NEAR_SCALE)
    x = (np.arange(columns) + 0.5) / NEAR_SCALE - HALF_WIDTH
    along = (np.arange(rows) + 0.5) / NEAR_SCALE
    grain = noise.normal(0, 9, (rows, columns)).astype(np.float32)
    blotches = _smooth(noise, (rows, columns), (40, 16)) * 22 + _smooth(noise, (rows, columns), (160, 60)) * 12 - 17
    gray = 98 + grain + blotches
    for track in (-0.95, 0.95):  # wheels polish the asphalt
        gray -= 9 * np.exp(-(((x - track) / 0.35) ** 2))[None, :]
    for k in range(7):  # patches of newer asphalt
        top, left = int(noise.integers(0, rows - 260)), int(noise.integers(round(5.7 * NEAR_SCALE), round(10.6 * NEAR_SCALE)))
        gray[top : top + int(noise.integers(60, 250)), left : left + int(noise.integers(40, 110))] -= 16 + 2 * k
    image = np.repeat(gray[:, :, None], 3, axis=2) + np.array([3, 1, 0])
    _cracks(image, noise)
    wear = _smooth(noise, (rows, columns), (96, 72)) * 0.7 + _smooth(noise, (rows, columns), (480, 200)) * 0.6
    paint = np.clip((wear - 0.38) * 5, 0.08, 1)[:, :, None]
    dashes = (along % 8.0 < 5.0)[:, None] & (np.abs(x) < 0.07)[None, :]
    sides = np.broadcast_to((np.abs(np.abs(x) - 2.75) < 0.08)[None, :], (rows, columns))
    marked = (dashes | sides)[:, :, None]
    image = np.where(marked, image * (1 - paint) + (224 + grain[:, :, None] * 0.6) * paint, image)
    joints = (along % 0.6 < 0.02)[:, None]
    image = _band(image, x, 3.35, 3.60, np.array([128, 132, 134]) + grain[:, :, None] * 0.7)  # gutter
    image = _band(image, x, 3.60, 3.80, np.where(joints[:, :, None], 96, np.array([182, 188, 190])) + grain[:, :, None] * 0.5)  # kerb
    tiles = joints | (np.abs((np.abs(x) - 3.8) % 0.6) < 0.02)[None, :]
    image = _band(
        image, x, 3.80, 5.7, np.where(tiles[:, :, None], 128, np.array([148, 156, 164])) + grain[:, :, None] * 0.8 + blotches[:, :, None]
    )
    image = _band(image, x, 5.7, HALF_WIDTH + 1, np.array([104, 128, 128]) + grain[:, :, None] * 1.6 + blotches[:, :, None] * 1.5)
    image = np.ascontiguousarray(np.clip(image, 0, 255).astype(np.uint8))
    for middle, at in ((0.6, 13.0), (-1.3, 35.0)):  # manholes
        center = (int((middle + HALF_WIDTH) * NEAR_SCALE), int(at * NEAR_SCALE))
        cv2.circle(image, center, int(0.32 * NEAR_SCALE), (66, 68, 70), -1, cv2.LINE_AA)
        cv2.circle(image, center, int(0.27 * NEAR_SCALE), (92, 94, 96), 2, cv2.LINE_AA)
    return image


def _band(image: np.ndarray, x: np.ndarray, inner: float, outer: float, color: np.ndarray) -> np.ndarray:
    """`image` with `color` where inner <= |x| < outer."""
    inside = ((np.abs(x) >= inner) & (np.abs(x) < outer))[None, :, None]
    return np.where(inside, color, image)


def _cracks(image: np.ndarray, noise: np.random.Generator) -> None:
    """Thin dark lines that wander over the asphalt."""
    rows = image.shape[0]
    for _ in range(14):
        y = noise.uniform(100, rows - 500)
        x = noise.uniform(6.3, 11.7) * NEAR_SCALE
        angle = noise.uniform(-1.2, 1.2)
        points = []
        for _ in range(40):
            points.append((x, y))
            angle += noise.normal(0, 0.35)
            x, y = x + 9 * math.sin(angle), y + 9 * abs(math.cos(angle))
        cv2.polylines(image, [np.array(points, np.int32)], False, (58, 58, 58), 1)


def _repeated(texture: Image, reach: float, scale: int) -> Image:
    """One period and, after it, as much again as can be seen from its end."""
    rows = round((PERIOD + reach) * scale) + 2
    copies = -(-rows // texture.shape[0])
    return np.ascontiguousarray(np.concatenate([texture] * copies)[:rows])


def _maps(top: int, bottom: int, reach: float, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """For rows `top` to `bottom` below the horizon: where in a texture window that begins at the truck each pixel looks."""
    rows, columns = np.mgrid[top:bottom, 0:WIDTH].astype(np.float32)
    z = np.minimum(FOCAL * EYE / (rows + 0.5), reach)
    x = (columns + 0.5 - CENTER) * z / FOCAL
    return cv2.convertMaps((x + HALF_WIDTH) * scale - 0.5, z * scale - 0.5, cv2.CV_16SC2)


def _lay(target: Image, texture: Image, maps: tuple[np.ndarray, np.ndarray], offset: float, reach: float, scale: int) -> None:
    """Draws the ground that lies from `offset` m on into `target`."""
    start = int(offset * scale)
    window = texture[start : start + round(reach * scale) + 1]
    cv2.remap(window, maps[0], maps[1], cv2.INTER_LINEAR, dst=target, borderMode=cv2.BORDER_REPLICATE)
