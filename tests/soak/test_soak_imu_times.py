"""Half a minute of the head's real program in virtual time: the times that the gateway gives IMU samples, against the chip's own log."""

from collections.abc import Mapping
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
from soaked_gateway import IMU, SoakedGateway
from virtual_head import VirtualHead

from sim.chips.icm20948 import ICM20948
from sim.world import World

SECOND = 1_000_000  # µs


# -22 222 ppm: an interval of 10 ms, of which the head's 50 ms are a multiple.
@pytest.mark.timeout(60)
@pytest.mark.parametrize(("ppm", "seconds"), [(-10_000, 30), (10_000, 30), (-22_222, 30)])
def test_from_ten_seconds_on_sample_times_rise_and_are_within_a_millisecond_of_the_chips(
    ppm: int, seconds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ICM20948, "__init__", partialmethod(ICM20948.__init__, ppm=ppm))
    made: list[int] = []
    still = World(seed=1).at(5 * SECOND)

    def log(sensor: str, t_us: int, values: Mapping[str, float]) -> None:
        if sensor == IMU:
            made.append(t_us)

    gateway = SoakedGateway(tmp_path)
    with VirtualHead(lambda t_us: still, log, gateway.turn) as head:
        head.until(seconds * SECOND)
    gateway.close()
    times = gateway.journal.imu_times
    assert gateway.journal.gaps == []
    assert len(made) - 10 <= len(times) <= len(made) and len(times) > 95 * seconds
    taken = np.array(made[: len(times)])
    errors_ms = (np.array(times) / 1e3 - taken) / 1e3
    print(f"{ppm} ppm: median {np.median(errors_ms):.2f} ms, worst after 10 s {np.abs(errors_ms[taken > 10 * SECOND]).max():.2f} ms")
    assert np.abs(errors_ms[taken > 10 * SECOND]).max() < 1.0
    assert np.abs(errors_ms).max() < 6.0  # also at first
