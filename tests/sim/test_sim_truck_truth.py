"""The truth log keeps every conversion exactly, and what a crash leaves of it can be read."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from sim import truth
from sim.truth import TruthLog

pytestmark = pytest.mark.timeout(60)

START = 5_000_000_000


def test_what_is_logged_is_read_back_exactly(tmp_path: Path) -> None:
    log = TruthLog(tmp_path, START)
    for k in range(1000):
        log.log("bmp390", k * 1000, {"pressure": 101_325.1 + k / 3, "temperature_barometer": 290.0 + k / 7})
    log.log("sht45", 7, {"humidity": 41.5})
    assert log.counts() == {"bmp390": 1000, "sht45": 1}
    log.close()
    read = truth.read(tmp_path)
    times, values = read["bmp390"]
    assert times.dtype == np.int64 and times[3] == START + 3_000_000
    assert list(values["pressure"]) == [101_325.1 + k / 3 for k in range(1000)]
    assert list(values["temperature_barometer"]) == [290.0 + k / 7 for k in range(1000)]
    assert list(read["sht45"][1]["humidity"]) == [41.5]


def test_rows_without_a_quantity_read_as_nan_in_the_order_of_time(tmp_path: Path) -> None:
    log = TruthLog(tmp_path, 0)
    log.log("icm20948", 10, {"acceleration_x": 1.0})
    log.log("icm20948", 30, {"acceleration_x": 3.0, "magnetic_field_x": 5e-5})
    log.log("icm20948", 20, {"acceleration_x": 2.0})
    log.close()
    times, values = truth.read(tmp_path)["icm20948"]
    assert list(times) == [10_000, 20_000, 30_000]
    assert list(values["acceleration_x"]) == [1.0, 2.0, 3.0]
    assert np.isnan(values["magnetic_field_x"]).tolist() == [True, True, False]


def test_flushed_rows_survive_and_a_torn_last_row_is_dropped(tmp_path: Path) -> None:
    log = TruthLog(tmp_path, 0)
    for k in range(10):
        log.log("opt3001", k, {"illuminance": float(k)})
    log.flush()
    assert list(truth.read(tmp_path)["opt3001"][1]["illuminance"]) == [float(k) for k in range(10)]
    log.close()
    file = tmp_path / "truth" / "opt3001-0.bin"
    file.write_bytes(file.read_bytes()[:-3])
    assert len(truth.read(tmp_path)["opt3001"][0]) == 9
    file.write_bytes(file.read_bytes()[:20])
    assert truth.read(tmp_path) == {}


def test_it_is_written_without_being_asked(tmp_path: Path) -> None:
    log = TruthLog(tmp_path, 0)
    log.log("sps30", 1, {"pm2_5": 1e-8})
    deadline = time.monotonic() + 20
    while "sps30" not in truth.read(tmp_path) or not len(truth.read(tmp_path)["sps30"][0]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    log.close()


def test_threads_may_log_at_the_same_time(tmp_path: Path) -> None:
    log = TruthLog(tmp_path, 0)

    def work(sensor: str) -> None:
        for k in range(2000):
            log.log(sensor, k, {"a": float(k), "b": -float(k)})
            if k % 500 == 0:
                log.flush()

    threads = [threading.Thread(target=work, args=(sensor,)) for sensor in ("x", "y", "x")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    read = truth.read(tmp_path)
    assert len(read["x"][0]) == 4000 and len(read["y"][0]) == 2000
    assert np.array_equal(read["x"][1]["a"], -read["x"][1]["b"])
    assert np.array_equal(read["y"][1]["a"], np.arange(2000.0))


def test_logging_a_sample_costs_less_than_50_microseconds(tmp_path: Path) -> None:
    log = TruthLog(tmp_path, 0)
    values = {f"q{k}": float(k) for k in range(9)}
    start = time.thread_time()
    for k in range(2000):
        log.log("icm20948", k, values)
    cost = (time.thread_time() - start) / 2000
    log.close()
    assert cost < 50e-6
