"""The sensor box of the first fleet behind its UART (facts/sox.md 2.1): 115200 baud, 100 samples a second, NMEA once a second.

Modelled: the commands 10, 13, 3D and 3C and their replies, events A (100 Hz of its own oscillator), B and C (GGA and VTG, once a second
each), event 88 when the GNSS is ready; sample numbers of 24 bits, error bits, ADC and words that clip at their ends, power cut. The facts
do not say, so it is a choice here: numbers go on behind a stop, events B and C take numbers of their own (`shared_index`: of the samples'
count), a stop answers 8F also when nothing ran, a command with a wrong XOR or of an unknown code gets no answer.
"""

import math
import struct
from collections.abc import Mapping
from datetime import UTC, datetime

from sim.chips.faces import Log, SerialOutput, Source, word

_HEADER = 0x9A
_INFO, _SENSING, _CLEAN, _GNSS = 0x10, 0x13, 0x3D, 0x3C
_COMMAND_BYTES = {_INFO: 4, _SENSING: 5, _CLEAN: 4, _GNSS: 4}
_PERIOD_US = 10_000.0
_SECOND = 100  # samples between events B and C
_GNSS_US = 30_000_000  # until the GNSS is ready
_KNOT = 1852 / 3600  # m/s

_G = 9.80665
_FULL_ACCELERATION = 32.0 * _G  # over 65535 steps
_FULL_RATE = math.radians(4000.0)
_FULL_FIELD = 9600e-6
_AXES = "xyz"
_POSITION = ("latitude", "longitude", "altitude", "speed", "bearing")


def frame(code: int, parameters: bytes) -> bytes:
    """A frame on the wire: header, code, parameters, XOR of all of it."""
    body = bytes((_HEADER, code)) + parameters
    check = 0
    for byte in body:
        check ^= byte
    return body + bytes((check,))


def sentence(fields: str) -> bytes:
    """An NMEA 0183 sentence: `$`, fields, `*` and the XOR between them in hexadecimal, end of line."""
    check = 0
    for byte in fields.encode():
        check ^= byte
    return f"${fields}*{check:02X}\r\n".encode()


def _angle(degrees: float, digits: int) -> str:
    """Degrees and minutes as NMEA has them: ddmm.mmmm with `digits` for the degrees."""
    whole, minutes = divmod(round(abs(degrees) * 600_000), 600_000)
    return f"{whole:0{digits}d}{minutes / 10_000:07.4f}"


def gga(moment: datetime, latitude: float, longitude: float, altitude: float) -> bytes:
    """A GGA with a fix of 8 satellites; angles in degrees, altitude in m over the sea."""
    north, east = "NS"[latitude < 0], "EW"[longitude < 0]
    time = f"{moment:%H%M%S}.{moment.microsecond // 10_000:02d}"
    place = f"{_angle(latitude, 2)},{north},{_angle(longitude, 3)},{east}"
    return sentence(f"GPGGA,{time},{place},1,08,1.0,{altitude:.1f},M,38.0,M,,")


def vtg(speed: float, bearing: float) -> bytes:
    """A VTG; speed in m/s, bearing in rad."""
    return sentence(f"GPVTG,{math.degrees(bearing) % 360:.1f},T,,M,{speed / _KNOT:.2f},N,{speed * 3.6:.2f},K,A")


class FirstFleetBox(SerialOutput):
    """The box; `ppm` is its oscillator's error, `clean_mv` and `clean_celsius` its dust sensor's voltage in clean air, and at what.

    `errors` are sent as the error bits. `samples` counts samples made since construction, sent or not; `index` is the next one's number,
    and `serial` may be set. `start_utc_ns`: UTC of t_us = 0, for GGA. A world without the position's quantities gives no events C."""

    SENSOR = "first_fleet"
    BAUD = 115_200
    RANGE = {
        **dict.fromkeys((f"acceleration_{axis}" for axis in _AXES), (-16 * _G, 16 * _G)),
        **dict.fromkeys((f"angular_rate_{axis}" for axis in _AXES), (-math.radians(2000), math.radians(2000))),
        **dict.fromkeys((f"magnetic_field_{axis}" for axis in _AXES), (-4800e-6, 4800e-6)),
        "pressure": (30_000.0, 111_000.0),
        "humidity": (0.0, 100.0),
        "temperature": (233.15, 398.15),
        "uva": (0.0, 2_080.0),
        "illuminance": (0.0, 140_000.0),
        "pm2_5": (0.0, 500e-9),
    }
    # Half a step. PM2.5: half a step of the ADC is 0.484 µg/m³, and the formula's temperature and humidity come in steps, too.
    EPSILON = {
        **dict.fromkeys((f"acceleration_{axis}" for axis in _AXES), _FULL_ACCELERATION / 65535 / 2),
        **dict.fromkeys((f"angular_rate_{axis}" for axis in _AXES), _FULL_RATE / 65535 / 2),
        **dict.fromkeys((f"magnetic_field_{axis}" for axis in _AXES), _FULL_FIELD / 65535 / 2),
        "pressure": 86_000 / 65535 / 2,
        "humidity": 1 / 128,
        "temperature": 0.01,
        "uva": 0.0635 / 2,
        "illuminance": 10.0,
        "pm2_5": 0.8e-9,
    }

    def __init__(
        self,
        source: Source,
        log: Log,
        ppm: float = 40.0,
        serial: int = 7,
        version: bytes = b"0001",
        model: bytes = b"CARSENSOR1",
        clean_mv: int = 600,
        clean_celsius: float = 25.0,
        start_utc_ns: int = 1_700_000_000_000_000_000,
        shared_index: bool = False,
    ) -> None:
        super().__init__()
        self._source = source
        self._log = log
        self._rate = 1.0 + ppm * 1e-6
        self.serial = serial
        self._version = version
        self._model = model
        self._clean_mv = clean_mv
        self._clean_celsius = clean_celsius
        self._start_utc_ns = start_utc_ns
        self._shared_index = shared_index
        self.errors = 0
        self.samples = 0
        self._now = 0
        self.power_cycle()

    def power_cycle(self) -> None:
        """A brown-out: stopped, numbers from 0, nothing on the wire."""
        self.index = 0
        self._other_index = 0
        self._running = False
        self._gnss_told = False
        self._powered_at = self._now
        self._input = bytearray()
        self._output.clear()
        self._origin = float(self._now)
        self._count = 0

    def advance(self, now_us: int) -> None:
        """Makes the samples due until `now_us`; while stopped, none."""
        while self._running:
            due = self._origin + (self._count + 1) * _PERIOD_US / self._rate
            if due > now_us:
                break
            self._count += 1
            self._sample(int(due))
        self._now = max(self._now, now_us)
        if not self._gnss_told and self._running and self._now - self._powered_at >= _GNSS_US:
            self._gnss_told = True
            self._output += frame(0x88, b"\0")

    def write(self, data: bytes) -> None:
        """Bytes from the controller; a whole command is answered at once (the line adds the time it takes)."""
        self._input += data
        while self._input:
            size = _COMMAND_BYTES.get(self._input[1], 0) if len(self._input) > 1 else 2
            if self._input[0] != _HEADER or not size:
                del self._input[0]
            elif len(self._input) < size:
                break
            else:
                request = bytes(self._input[:size])
                if frame(request[1], request[2:-1]) == request:
                    del self._input[:size]
                    self._answer(request)
                else:
                    del self._input[0]

    def _answer(self, request: bytes) -> None:
        code = request[1]
        if code == _INFO:
            self._output += frame(0x90, f"{self.serial:04d}".encode() + self._version + self._model.ljust(10, b"\0"))
        elif code == _CLEAN:
            order = ">" if self._version == b"0000" else "<"
            self._output += frame(0xBD, struct.pack(order + "Hh", self._clean_mv, round(self._clean_celsius * 10)))
        elif code == _GNSS:
            self._output += frame(0xBC, bytes((self._now - self._powered_at >= _GNSS_US,)))
        else:
            known = request[2] in (0x00, 0xFF)
            if known:
                self._running = request[2] == 0xFF
                self._origin, self._count = float(self._now), 0
            self._output += frame(0x8F, bytes((0 if known else 1, _SENSING)))

    def _head(self, index: int) -> bytes:
        return struct.pack("<H", self.serial) + index.to_bytes(3, "little") + bytes((self.errors,))

    def _next_index(self) -> int:
        index, self.index = self.index, (self.index + 1) & 0xFFFFFF
        return index

    def _next_other(self) -> int:
        if self._shared_index:
            return self._next_index()
        index, self._other_index = self._other_index, (self._other_index + 1) & 0xFFFFFF
        return index

    def _sample(self, t_us: int) -> None:
        self.samples += 1
        values = self._source(t_us)
        steps = self._steps(values)
        self._output += frame(0x8A, self._head(self._next_index()) + struct.pack("<9h3H2hH", *steps))
        self._log(self.SENSOR, t_us, {name: values[name] for name in self.RANGE})
        if self._count % _SECOND == 50:
            self._output += frame(0x8B, self._head(self._next_other()) + struct.pack("<HH", steps[14], steps[11]))
        if self._count % _SECOND == 70 and all(name in values for name in _POSITION):
            self._position(t_us, {name: values[name] for name in _POSITION})

    def _position(self, t_us: int, values: dict[str, float]) -> None:
        utc_us = self._start_utc_ns // 1000 + t_us
        moment = datetime.fromtimestamp(utc_us // 1_000_000, UTC).replace(microsecond=utc_us % 1_000_000)
        place = gga(moment, values["latitude"], values["longitude"], values["altitude"])
        for text in (place, vtg(values["speed"], values["bearing"])):
            self._output += frame(0x8C, self._head(self._next_other()) + bytes((len(text),)) + text)
        self._log("gnss", t_us, values)

    def _steps(self, v: Mapping[str, float]) -> tuple[int, ...]:
        """The words of a sample of the values `v`, in the order of the frame."""
        celsius = v["temperature"] - 273.15
        dry = 1.0 if v["humidity"] <= 50 else 1 - 0.01467 * (v["humidity"] - 50)
        slope = 6.0 if celsius <= 40 else 1.5
        clean = self._clean_mv - slope * (self._clean_celsius - celsius)
        millivolts = v["pm2_5"] * 1e9 / (0.6 * dry) + clean
        return (
            *(word(v[f"acceleration_{axis}"] / _FULL_ACCELERATION * 65535) for axis in _AXES),
            *(word(v[f"angular_rate_{axis}"] / _FULL_RATE * 65535) for axis in _AXES),
            *(word(v[f"magnetic_field_{axis}"] / _FULL_FIELD * 65535) for axis in _AXES),
            word((v["pressure"] / 100 - 250) * 65535 / 860, 0, 65535),
            word(v["humidity"] * 64 + 896, 0, 65535),
            word(celsius * 50 + 2096, 0, 65535),
            word(v["uva"] / 0.0635),
            word(v["illuminance"] / 20),
            word(millivolts * 4095 / 6600, 0, 4095),
        )
