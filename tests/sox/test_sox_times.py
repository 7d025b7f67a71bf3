"""XEP-0082 times: strict out, tolerant in where a meaning is clear (facts/sox.md 1.5)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sox.times import japan_time, parse_xep0082, xep0082

pytestmark = pytest.mark.timeout(60)

S = 1_000_000_000
# 2014-01-08T09:54:21Z, by `date -u -d ... +%s`
SOXJS = 1_389_174_861 * S


@given(st.integers(min_value=-62_135_596_800 * S, max_value=253_402_300_799 * S))
def test_every_time_comes_back_to_the_microsecond(utc_ns):
    text = xep0082(utc_ns)
    assert len(text) == 27
    assert parse_xep0082(text) == utc_ns // 1000 * 1000


@given(st.integers(min_value=-62_135_596_800 * S, max_value=253_402_300_799 * S - 9 * 3600 * S))
def test_every_time_of_japan_comes_back_to_the_millisecond(utc_ns):
    text = japan_time(utc_ns)
    assert len(text) == 29 and text.endswith("+09:00")
    assert parse_xep0082(text) == utc_ns // 1_000_000 * 1_000_000


def test_the_time_of_japan_is_that_of_the_clock_there():
    assert japan_time(SOXJS + 485_999_999) == "2014-01-08T18:54:21.485+09:00"


def test_the_epoch_is_written_and_read():
    assert xep0082(0) == "1970-01-01T00:00:00.000000Z"
    assert parse_xep0082("1970-01-01T00:00:00Z") == 0


@pytest.mark.parametrize(("text", "utc_ns"), [
    ("2014-01-08T18:54:21.485+09:00", SOXJS + 485_000_000),
    ("2014-01-08T09:54:21.485Z", SOXJS + 485_000_000),
    ("2014-01-08T18:54:21+09:00", SOXJS),
    ("2014-1-8T18:54:21.485--9:00", SOXJS + 485_000_000),  # SoxJS in Japan: "-" before the negative offset of getTimezoneOffset
    ("2014-1-8T4:54:21-5:00", SOXJS),
    ("2014-01-08T18:54:21+0900", SOXJS),
    ("2014-01-08t09:54:21z", SOXJS),
    ("2014-01-08 09:54:21Z", SOXJS),
    (" 2014-01-08T09:54:21Z\n", SOXJS),
    ("2014-01-08T09:54:21.4851234567891Z", SOXJS + 485_123_456),  # over-long: nanoseconds are kept, the rest is cut
    ("2014-01-08T09:54:21.33451Z", SOXJS + 334_510_000),  # python-sox's unpadded fraction, read as written
    ("2014-01-08T09:54:21,5Z", SOXJS + 500_000_000),
    ("2016-12-31T23:59:60Z", 1_483_228_800 * S),  # a leap second
    ("1969-12-31T23:59:59.5Z", -S // 2),
])  # fmt: skip
def test_times_as_found_in_the_wild_are_read(text, utc_ns):
    assert parse_xep0082(text) == utc_ns


@pytest.mark.parametrize("text", [
    "", "now", "2014-01-08", "2014-01-08T18:54:21",  # no zone: an hour or nine of error
    "2014-02-30T00:00:00Z", "2014-13-01T00:00:00Z", "0000-00-00T00:00:00Z", "2014-01-08T24:00:00Z", "2014-01-08T12:60:00Z",
    "2014-01-08T12:00:61Z", "2014-01-08T12:00:00+25:00", "2014-01-08T12:00:00+09:75", "2014-01-08T12:00:00-+9:00", "14-01-08T12:00:00Z",
    "2014-01-08T12:00:00ZZ", "2014-01-08T12:00:00.Z", "1389174861", "２０１４-01-08T09:54:21Z",
])  # fmt: skip
def test_what_names_no_moment_is_no_time(text):
    with pytest.raises(ValueError):
        parse_xep0082(text)
