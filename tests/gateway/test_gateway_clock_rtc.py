"""A battery-backed clock: UTC before any other source, worth what it was found to be worth."""

import math
import threading
from pathlib import Path

import msgspec
import pytest
from fake_kernel import NANO, Kernel, utc

from gateway.clock import Clock, Mapping
from gateway.rtc import DRIFT_PPM, GOOD_S, KEEP_SECONDS, LOOK_SECONDS, READ_S, Compared, Rtc, read_utc_ns

NOON = "2026-11-28T12:00:00"
DAY = 86_400.0


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch, tmp_path)


class Truck:
    """A truck with a clock that may drift or stand still while it is off; `true_ns` is UTC now."""

    def __init__(self, kernel: Kernel, folder: Path) -> None:
        self.kernel = kernel
        self.file = folder / "rtc.json"
        self.boots = 0
        self._utc_offset = utc(NOON) - kernel.boot_ns
        kernel.set_rtc(NOON)
        self.switch_on()

    @property
    def true_ns(self) -> int:
        return self.kernel.boot_ns + self._utc_offset

    def switch_on(self, off_s: float = 0.0, ppm: float = 0.0, stood_still: bool = False) -> None:
        """Off for so long, and on again: another boot of the kernel."""
        self._utc_offset += int(off_s * NANO)
        self.kernel.rtc_offset_ns += 0 if stood_still else int(off_s * (1 + ppm * 1e-6) * NANO)
        self.boots += 1
        self.restart()

    def restart(self) -> None:
        """The recorder starts in this boot."""
        self.rtc = Rtc(self.file, f"boot-{self.boots}", str(self.kernel.device))
        self.clock = Clock(rtc=self.rtc.mapping)

    def hear(self) -> None:
        """A fix, and the comparison."""
        self.clock.observe_gnss(self.kernel.boot_ns, self.true_ns - 100_000_000, 0.01)
        self.rtc.compare(self.clock.mapping())

    def mapping(self) -> Mapping:
        return self.clock.mapping()

    def is_honest(self) -> bool:
        mapping = self.mapping()
        return abs(mapping.utc_ns - self.true_ns) <= mapping.error_s * NANO


def test_a_machine_without_one_says_none(kernel: Kernel, tmp_path: Path) -> None:
    rtc = Rtc(tmp_path / "rtc.json", "boot", str(kernel.device))
    assert read_utc_ns(str(kernel.device)) is None
    assert Clock(rtc=rtc.mapping).mapping().source == "none"
    rtc.compare(Mapping(kernel.boot_ns, utc(NOON), "gnss", 0.3))
    assert not (tmp_path / "rtc.json").exists()


def test_one_that_has_no_time_or_an_impossible_one_says_none(kernel: Kernel, tmp_path: Path) -> None:
    for text in ("1970-01-01T00:00:00", "2000-01-01T00:00:10", "1960-01-01T00:00:00", "2099-01-01T00:00:00"):
        kernel.set_rtc(text)
        rtc = Rtc(tmp_path / "rtc.json", "boot", str(kernel.device))
        assert Clock(rtc=rtc.mapping).mapping().source == "none", text


def test_its_date_is_read_in_64_bits_to_the_middle_of_its_second(kernel: Kernel) -> None:
    for text in (NOON, "2028-02-29T23:59:59", "2038-01-19T03:14:08", "2045-01-01T00:00:00"):
        kernel.set_rtc(text)
        assert read_utc_ns(str(kernel.device)) == utc(text) + NANO // 2


def test_one_that_was_never_compared_gives_no_time_and_yields_to_every_other_source(kernel: Kernel, tmp_path: Path) -> None:
    truck = Truck(kernel, tmp_path)
    mapping = truck.mapping()
    assert (mapping.utc_ns, mapping.source) == (0, "none"), "it may say anything: that is no time"
    kernel.synchronised, kernel.real_offset_ns = True, truck.true_ns - kernel.boot_ns
    assert truck.mapping().source == "ntp"
    truck.hear()
    assert truck.mapping().source == "gnss"


@pytest.mark.parametrize("ppm", [0.0, 60.0, -60.0])
def test_one_that_was_found_to_go_on_states_its_drift_since(kernel: Kernel, tmp_path: Path, ppm: float) -> None:
    truck = Truck(kernel, tmp_path)
    truck.hear()
    truck.switch_on(3 * DAY, ppm)
    assert math.isinf(truck.mapping().error_s), "it may have stood still: not yet seen to go on"
    truck.hear()
    for days in (0.5, 10.0, 90.0):
        truck.switch_on(days * DAY, ppm)
        mapping = truck.mapping()
        assert mapping.source == "rtc" and truck.is_honest()
        assert READ_S <= mapping.error_s <= READ_S + GOOD_S + 1 + 2 * (days + 93) * DAY * DRIFT_PPM * 1e-6
        kernel.wait(3_600)
        assert truck.is_honest()
        truck.hear()


def test_one_that_is_off_by_minutes_and_never_set_is_honest_about_it(kernel: Kernel, tmp_path: Path) -> None:
    truck = Truck(kernel, tmp_path)
    kernel.rtc_offset_ns -= 400 * NANO
    truck.restart()
    truck.hear()
    truck.switch_on(DAY)
    truck.hear()
    truck.switch_on(DAY)
    assert truck.is_honest() and 400 < truck.mapping().error_s < 420
    kernel.rtc_offset_ns += 400 * NANO  # somebody sets it right
    truck.restart()
    assert truck.is_honest()


def test_one_that_stood_still_while_the_truck_was_off_is_not_believed_again(kernel: Kernel, tmp_path: Path) -> None:
    truck = Truck(kernel, tmp_path)
    truck.hear()
    truck.switch_on(DAY, stood_still=True)
    assert math.isinf(truck.mapping().error_s)
    truck.hear()
    truck.switch_on(DAY, stood_still=True)
    assert math.isinf(truck.mapping().error_s)


def test_one_that_was_reset_says_none(kernel: Kernel, tmp_path: Path) -> None:
    truck = Truck(kernel, tmp_path)
    kernel.wait(40 * DAY)
    truck.restart()
    truck.hear()
    kernel.set_rtc("2026-12-01T00:00:00")  # sane, and five weeks ago
    truck.switch_on()
    assert truck.mapping().source == "none"


def test_within_one_boot_a_comparison_counts_at_once(kernel: Kernel, tmp_path: Path) -> None:
    truck = Truck(kernel, tmp_path)
    truck.hear()
    kernel.wait(60)
    truck.restart()
    assert truck.mapping().source == "rtc" and truck.mapping().error_s < 5 and truck.is_honest()


def test_it_is_compared_with_good_mappings_only_and_written_every_ten_minutes(kernel: Kernel, tmp_path: Path) -> None:
    truck = Truck(kernel, tmp_path)
    for source, error in (("none", math.inf), ("rtc", 0.1), ("gnss", GOOD_S + 0.1)):
        truck.rtc.compare(Mapping(kernel.boot_ns, truck.true_ns, source, error))
    assert not truck.file.exists()
    written = set()
    for _ in range(int(2.5 * KEEP_SECONDS)):
        kernel.wait(1)
        truck.hear()
        written.add(truck.file.read_bytes())
    assert len(written) == 3


@pytest.mark.parametrize("content", [b"", b"\0" * 80, b'{"boot_id": 1}', b"[]"])
def test_a_file_that_is_none_is_nothing_known(kernel: Kernel, tmp_path: Path, content: bytes) -> None:
    truck = Truck(kernel, tmp_path)
    truck.file.write_bytes(content)
    truck.restart()
    assert math.isinf(truck.mapping().error_s)
    truck.hear()
    assert msgspec.json.decode(truck.file.read_bytes(), type=Compared).boot_id == "boot-1"


def test_a_spool_that_refuses_is_told_and_the_thread_goes_on(kernel: Kernel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truck = Truck(kernel, tmp_path)
    truck.file.with_name("rtc.json.part").mkdir()
    truck.clock.observe_gnss(kernel.boot_ns, truck.true_ns, 0.01)

    class Stop(threading.Event):
        turns = 0

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout == LOOK_SECONDS
            self.turns += 1
            return self.turns > 3

    truck.rtc.run(truck.clock, Stop())
    error = capsys.readouterr().err
    assert error.startswith(f"recorder: {truck.file}: ") and error.count("\n") == 1
