"""UBX frames as a receiver sees them, and the two messages that tell where it is (facts/sensors-and-head.md 1.11): NAV-PVT, and the NMEA
sentences GGA and RMC that it sends as delivered."""

import math
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

NANO = 1_000_000_000
GEOID_HEIGHT = 38.0  # m, geoid over ellipsoid around Fujisawa (EGM96 has 37 to 39 m)
H_ACCURACY_MM, V_ACCURACY_MM, S_ACCURACY_MM_S = 1500, 2400, 50
T_ACCURACY_NS = 25
HEADING_ACCURACY = 0.5  # degrees while driving; at rest the receiver does not know
UNKNOWN_MM = 0xFFFFFFFF
MOVING = 0.2  # m/s
SATELLITES = 17
KNOT = 1852 / 3600  # m/s
LEAP_SECONDS = 18  # GPS minus UTC since 2017
GPS_EPOCH_S = 315_964_800  # 1980-01-06 as UTC since 1970
LONGEST = 1024  # bytes of payload that a receiver takes

_NAV_PVT = struct.Struct("<IHBBBBBBIiBBBBiiiiIIiiiiiIIHBBIihH")


class Message(NamedTuple):
    """One whole frame with the right sum."""

    kind: int  # class and id, e.g. 0x0107
    payload: bytes


def _sum(body: bytes) -> bytes:
    first = second = 0
    for byte in body:
        first = (first + byte) & 0xFF
        second = (second + first) & 0xFF
    return bytes((first, second))


def ubx(kind: int, payload: bytes = b"") -> bytes:
    """One UBX frame: sync, class, id, length, payload and the 8-bit Fletcher sum over class to payload."""
    body = struct.pack(">H", kind) + struct.pack("<H", len(payload)) + payload
    return b"\xb5\x62" + body + _sum(body)


class MessageReader:
    """Received bytes to messages. What is no frame is passed over; a frame with a wrong sum is counted in `bad` and searched again."""

    def __init__(self) -> None:
        self.bad = 0
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes."""
        self._bytes += data
        found: list[Message] = []
        while True:
            start = self._bytes.find(b"\xb5\x62")
            if start < 0:
                del self._bytes[: -1 if self._bytes.endswith(b"\xb5") else len(self._bytes)]
                return found
            del self._bytes[:start]
            if len(self._bytes) < 6:
                return found
            kind, length = int.from_bytes(self._bytes[2:4], "big"), int.from_bytes(self._bytes[4:6], "little")
            if length <= LONGEST and len(self._bytes) < 8 + length:
                return found
            body = bytes(self._bytes[2 : 6 + length])
            if length <= LONGEST and _sum(body) == self._bytes[6 + length : 8 + length]:
                found.append(Message(kind, body[4:]))
                del self._bytes[: 8 + length]
            else:
                self.bad += 1
                del self._bytes[:2]


def nav_pvt(utc_ns: int, values: Mapping[str, float], fix: bool = True, dated: bool = True) -> bytes:
    """The NAV-PVT frame (92 bytes of payload) of the position `values` (SI, angles of place in degrees) valid at `utc_ns`.

    `fix`: a 3D fix, else none; `dated`: date, time and leap seconds resolved, else the validity bits are clear. The clock time is that of
    the nearest hundredth of a second, so nano lies between -5 ms and +995 ms (u-blox interface description; real message 1 of the facts
    has -361668)."""
    seconds = (utc_ns + 5_000_000) // 10_000_000 // 100
    nano = utc_ns - seconds * NANO
    moment = datetime.fromtimestamp(seconds, UTC)
    week_ms = ((seconds - GPS_EPOCH_S + LEAP_SECONDS) % 604_800 * 1000 + nano // 1_000_000) % 604_800_000
    when = (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)
    if not fix:
        return ubx(0x0107, _NAV_PVT.pack(
            week_ms, *when, 0x07 if dated else 0, T_ACCURACY_NS if dated else UNKNOWN_MM, nano, 0, 0, 0, 0, 0, 0, 0, -17_000,
            UNKNOWN_MM, UNKNOWN_MM, 0, 0, 0, 0, 0, 20_000, 18_000_000, 9999, 1, 0, 0, 0, 0, 0,
        ))  # fmt: skip
    height = round(values["altitude"] * 1000)
    speed, bearing = values["speed"], values["bearing"]
    heading_accuracy = HEADING_ACCURACY if speed > MOVING else 30.0
    return ubx(0x0107, _NAV_PVT.pack(
        week_ms, *when, 0x07 if dated else 0, T_ACCURACY_NS, nano, 3, 0x01, 0xE0, SATELLITES,
        round(values["longitude"] * 1e7), round(values["latitude"] * 1e7), height + round(GEOID_HEIGHT * 1000), height,
        H_ACCURACY_MM, V_ACCURACY_MM, round(speed * 1000 * math.cos(bearing)), round(speed * 1000 * math.sin(bearing)), 0,
        round(speed * 1000), round(math.degrees(bearing) * 1e5) % 36_000_000, S_ACCURACY_MM_S,
        round(heading_accuracy * 1e5), 102, 0, 0, 0, 0, 0, 0,
    ))  # fmt: skip


def nmea(utc_ns: int, values: Mapping[str, float], fix: bool = True) -> bytes:
    """The sentences RMC and GGA of the same position."""
    moment = datetime.fromtimestamp(utc_ns // NANO, UTC)
    clock, day = moment.strftime("%H%M%S.") + f"{utc_ns % NANO // 10_000_000:02d}", moment.strftime("%d%m%y")
    if not fix:
        return _sentence(f"GNRMC,{clock},V,,,,,,,{day},,,N,V") + _sentence(f"GNGGA,{clock},,,,,0,00,99.99,,,,,,")
    latitude, longitude = _minutes(values["latitude"], 2, "NS"), _minutes(values["longitude"], 3, "EW")
    course = f"{math.degrees(values['bearing']) % 360:.2f}" if values["speed"] > MOVING else ""
    return _sentence(f"GNRMC,{clock},A,{latitude},{longitude},{values['speed'] / KNOT:.3f},{course},{day},,,A,V") + _sentence(
        f"GNGGA,{clock},{latitude},{longitude},1,{SATELLITES},1.02,{values['altitude']:.1f},M,{GEOID_HEIGHT:.1f},M,,"
    )


def _minutes(degrees: float, digits: int, signs: str) -> str:
    """Degrees and minutes as NMEA has them, e.g. 3541.23456,N."""
    whole = round(abs(degrees) * 60 * 100_000)
    return f"{whole // 6_000_000:0{digits}d}{whole % 6_000_000 / 100_000:08.5f},{signs[degrees < 0]}"


def _sentence(text: str) -> bytes:
    total = 0
    for byte in text.encode():
        total ^= byte
    return f"${text}*{total:02X}\r\n".encode()
