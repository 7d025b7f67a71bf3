"""XEP-0082 times, written strictly and read as they are found in the wild (facts: sox.md 1.5).

A time that names no moment (no zone, no such day) is no time: guessing a zone would move a reading by hours. A fraction is read
as the decimal it is written as, also where python-sox left out leading zeros: which of them it dropped cannot be known, and the
error stays below a second.
"""

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000_000  # ns

# SoxJS: month, day and hour without leading zero and a zone "--9:00" (a minus sign before the negative offset of getTimezoneOffset,
# for Japan: +09:00). RFC 3339 allows lower-case t and z; a space for the T is common.
_TIME = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})[Tt ](\d{1,2}):(\d{1,2}):(\d{1,2})(?:[.,](\d+))?\s*(?:[Zz]|(--|[+-])(\d{1,2})(?::?(\d{2}))?)", re.ASCII
)


def xep0082(utc_ns: int) -> str:
    """UTC nanoseconds since 1970 as XEP-0082 text with microseconds (rounded down), e.g. 2026-05-09T01:02:03.000004Z."""
    moment = _EPOCH + timedelta(microseconds=utc_ns // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")  # strftime does not pad years before 1000


def japan_time(utc_ns: int) -> str:
    """UTC nanoseconds since 1970 as the first fleet wrote times: XEP-0082 with milliseconds (rounded down) in the time of Japan,
    e.g. 2026-05-09T10:02:03.004+09:00. SoxJS drops the zone: only such a time is right for it there."""
    moment = _EPOCH + timedelta(hours=9, milliseconds=utc_ns // 1_000_000)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "+09:00"


def parse_xep0082(text: str) -> int:
    """UTC nanoseconds since 1970 of the time `text`; raises ValueError where it names no moment."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a time with a zone: {text!r}")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    leap = second == 60  # a leap second is the second after :59
    try:
        moment = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f"no such time: {text!r}") from error
    fraction, sign, zone_hours, zone_minutes = match.groups()[6:]
    offset = 0
    if sign:
        if int(zone_hours) > 14 or int(zone_minutes or 0) > 59:
            raise ValueError(f"no such zone: {text!r}")
        offset = int(zone_hours) * 3600 + int(zone_minutes or 0) * 60
        if sign == "-":
            offset = -offset
    since = moment - _EPOCH
    seconds = since.days * 86_400 + since.seconds + leap - offset
    return seconds * _SECOND + int((fraction or "0")[:9].ljust(9, "0"))
