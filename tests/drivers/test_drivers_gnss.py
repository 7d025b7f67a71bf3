"""UBX, NAV-PVT and the receiver's driver, on CPython and on MicroPython; and what only the host can compare."""

from collections.abc import Callable

import both_interpreters as both
import pytest

from drivers import nav_pvt, neo_m9n
from gateway import clock
from logbook.quantities import BY_ID

pytestmark = pytest.mark.timeout(60)


@both.each_check(__file__, "gnss_on_both.py")
def test_gnss_on_both_interpreters(run: Callable[[], None]) -> None:
    run()


def test_the_rule_for_dates_is_the_gateways() -> None:
    assert nav_pvt.BUILD_S * 10**9 == clock.BUILD_UTC_NS
    assert nav_pvt.ROLL_OVER_S * 10**9 == clock.WEEKS_1024_NS


def test_the_limits_are_the_tables() -> None:
    def of(name: str, offset: int, number: int) -> float | str:
        raw = bytearray(92)
        raw[20:22] = b"\x03\x01"
        raw[offset : offset + 4] = number.to_bytes(4, "little", signed=True)
        return neo_m9n.decode(b"", bytes(raw))[name]

    for name, offset, step in (("altitude", 36, 1000), ("speed", 60, 1000), ("latitude", 28, 10**7), ("longitude", 24, 10**7)):
        low, high = BY_ID[name].low, BY_ID[name].high
        assert of(name, offset, round(high * step)) == pytest.approx(high) and of(name, offset, round(low * step)) == pytest.approx(low)
        assert isinstance(of(name, offset, round(high * step) + 1), str) and isinstance(of(name, offset, round(low * step) - 1), str)
