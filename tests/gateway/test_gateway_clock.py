import math
import time

import pytest

from gateway.clock import BUILD_UTC_NS, GNSS_DELAY_S, GNSS_HOLD_NS, WEEKS_1024_NS, Clock, boottime_ns, kernel_error_s, sane_date
from gateway.positions import parse_time

NANO = 1_000_000_000
NOW = BUILD_UTC_NS + 30 * 86_400 * NANO


def nobody() -> float | None:
    return None


def test_without_a_source_there_is_no_utc() -> None:
    mapping = Clock(system=nobody).mapping(5)
    assert mapping == (5, 0, "none", math.inf)
    assert Clock(system=nobody).utc_ns(5) == 0


@pytest.mark.parametrize(
    ("text", "sane"),
    [
        ("1980-01-06T00:00:00Z", False),  # a receiver without a date
        ("2019-04-02T00:00:00Z", False),  # what gpsd made of 1980-01-01 at mode 3 (facts/measured.md)
        ("2007-04-07T00:00:00Z", False),  # 1024 weeks before 2026-11-21
        ("2026-11-21T12:00:00Z", True),
        ("2045-12-21T12:00:00Z", False),
        ("3236-01-01T00:00:00Z", False),  # week 0xFFFF
    ],
)
def test_a_date_counts_only_where_this_program_can_live(text: str, sane: bool) -> None:
    utc = parse_time(text)
    assert utc is not None and sane_date(utc) is sane


def test_a_gnss_date_that_cannot_be_true_is_counted_and_not_used() -> None:
    clock = Clock(system=nobody)
    assert not clock.observe_gnss(1, BUILD_UTC_NS - 1, 0.005)
    assert not clock.observe_gnss(2, BUILD_UTC_NS + WEEKS_1024_NS, 0.005)
    assert clock.rejected == 2
    assert clock.mapping().source == "none"


def test_the_least_delayed_fix_of_a_minute_counts_and_the_error_says_what_is_unknown() -> None:
    clock = Clock(system=nobody)
    start = boottime_ns()
    for second, delay_ms in enumerate((180, 90, 400, 120)):
        assert clock.observe_gnss(start + second * NANO + delay_ms * 1_000_000, NOW + second * NANO, 0.005)
    mapping = clock.mapping(start + 3 * NANO)
    assert mapping.source == "gnss"
    assert mapping.utc_ns - (NOW + 3 * NANO) == -90_000_000  # only late by the smallest delay
    assert 0.09 < GNSS_DELAY_S <= mapping.error_s < 1.0


def test_the_error_grows_while_no_fix_comes() -> None:
    clock = Clock(system=nobody)
    clock.observe_gnss(1_000 * NANO, NOW, 0.0)
    near, far = clock.mapping(1_001 * NANO).error_s, clock.mapping(3_000 * NANO).error_s
    assert far - near == pytest.approx(2_000 * 50e-6, rel=0.01)


def test_utc_reaches_back_to_before_the_first_fix() -> None:
    clock = Clock(system=nobody)
    clock.observe_gnss(1_000 * NANO, NOW, 0.0)
    assert clock.utc_ns(400 * NANO) == NOW - 600 * NANO


def test_a_synchronised_system_clock_is_ntp_with_the_kernels_error() -> None:
    if not sane_date(time.time_ns()):
        pytest.skip("the machine's own date is outside of what the clock takes for possible")
    mapping = Clock(system=lambda: 0.25).mapping()
    assert mapping.source == "ntp" and 0.25 <= mapping.error_s < 1.0
    assert mapping.utc_ns == pytest.approx(time.time_ns(), abs=5 * NANO)


def test_gnss_goes_before_the_system_clock_until_an_hour_without_a_fix() -> None:
    if not sane_date(time.time_ns()):
        pytest.skip("the machine's own date is outside of what the clock takes for possible")
    clock = Clock(system=lambda: 0.01)
    clock.observe_gnss(1_000 * NANO, NOW, 0.0)
    assert clock.mapping(1_010 * NANO).source == "gnss"
    assert clock.mapping(1_010 * NANO + GNSS_HOLD_NS).source == "ntp"


def test_the_kernel_says_an_error_or_that_nobody_disciplines_the_clock() -> None:
    error = kernel_error_s()
    assert error is None or 0 <= error < 16  # the kernel gives up at 16 s (NTP_PHASE_LIMIT)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-21", "2026-11-21T12:00:00", None, 5])
def test_what_is_no_time_in_utc_is_none(text: object) -> None:
    assert parse_time(text) is None


def test_a_time_is_exact_to_the_millisecond() -> None:
    assert parse_time("2021-09-02T19:13:13.250Z") == 1_630_609_993_250_000_000
