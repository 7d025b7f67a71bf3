"""What the truck takes for UTC when the kernel's clocks are stepped, unset, of another century, or the machine's only ones."""

import math
import random
from pathlib import Path

import pytest
from fake_kernel import NANO, Kernel, utc
from gateway_recording import Bench, Recording, Running, truck, wait_for

import gateway.recorder
from gateway.clock import GNSS_HOLD_NS, LEAP_REPORTS, NTP_LEAST_S, Clock, Mapping, boottime_ns
from gateway.journal import event
from logbook.schemas import cruisers_pb2 as pb

pytestmark = pytest.mark.timeout(60)

HOUR = 3_600 * NANO
NOON = "2026-11-28T12:00:00"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch, tmp_path)


def is_honest(mapping: Mapping, true_offset_ns: int) -> bool:
    """Whether the stated error holds the true one."""
    return abs(mapping.utc_ns - mapping.boottime_ns - true_offset_ns) <= mapping.error_s * NANO


# --- the system clock


def test_a_system_clock_counts_only_while_the_kernel_calls_it_synchronised(kernel: Kernel) -> None:
    kernel.set_date(NOON)
    assert Clock().mapping().source == "none"
    kernel.synchronised = True
    mapping = Clock().mapping()
    assert mapping == (kernel.boot_ns, utc(NOON), "ntp", pytest.approx(NTP_LEAST_S))
    kernel.maxerror_us, kernel.slewing_us = 300_000, -250_000  # timesyncd slews up to 0.4 s and calls that synchronised
    assert Clock().mapping().error_s == pytest.approx(0.55)


@pytest.mark.parametrize("start", ["1970-01-01T00:00:05", "2016-02-11T16:28:13", "2045-12-21T00:00:00"])
def test_a_date_that_cannot_be_is_no_utc_though_the_kernel_calls_it_synchronised(kernel: Kernel, start: str) -> None:
    kernel.synchronised = True
    kernel.set_date(start)
    assert Clock().mapping() == (kernel.boot_ns, 0, "none", math.inf)


def test_a_thread_put_to_sleep_between_two_readings_is_part_of_the_error(kernel: Kernel) -> None:
    kernel.synchronised = True
    kernel.set_date(NOON)
    true, kernel.asleep_ns = kernel.real_offset_ns, 400_000_000
    mapping = Clock().mapping()
    assert is_honest(mapping, true) and mapping.error_s >= NTP_LEAST_S + 0.4


def test_a_clock_that_is_set_while_it_is_read_is_not_believed(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.synchronised = True
    kernel.set_date(NOON)
    gettime = kernel._gettime

    def stepped(clock: int) -> int:
        now = gettime(clock)
        kernel.synchronised = False  # settimeofday: the kernel calls it unsynchronised from the same moment
        kernel.real_offset_ns += HOUR
        return now

    monkeypatch.setattr("time.clock_gettime_ns", stepped)
    assert Clock().mapping(kernel.boot_ns).source == "none"


def test_2038_passes_in_64_bits(kernel: Kernel, tmp_path: Path) -> None:
    kernel.synchronised = True
    kernel.set_date("2038-01-19T03:14:06")
    bench = Bench(tmp_path)
    bench.journal._clock = Clock()
    said = []
    for _ in range(4):
        mapping = Clock().mapping()
        said.append(mapping.utc_ns)
        assert pb.ClockMapping.FromString(pb.ClockMapping(**mapping._asdict()).SerializeToString()).utc_ns == mapping.utc_ns
        bench.journal.write([event("test", "clock", "")])
        kernel.wait(1)
    assert said == [(2**31 - 2 + second) * NANO for second in range(4)]
    kernel.set_rtc("2038-01-19T03:14:09")
    recording = bench.close()
    assert [message.publish_time for message in recording.messages["/event"]] == said


# --- gnss


class Receiver:
    """Fixes once a second, reported late; the boot time clock drifts against them. `true` is UTC less boot time now, in ns."""

    def __init__(self, kernel: Kernel, seed: int, ppm: float) -> None:
        self.clock = Clock()
        self._kernel = kernel
        self._random = random.Random(seed)
        self._ppm = ppm
        self.true = utc(NOON) - kernel.boot_ns
        self.leaps_ns = 0

    def second(self, heard: bool = True, late_s: float = 0.0) -> Mapping:
        """A second passes; the mapping behind the report, if there is one."""
        fixed_ns = self._kernel.boot_ns
        delay = self._random.uniform(0.05, 0.295) + late_s
        if heard:
            self._kernel.wait(delay)
            self.clock.observe_gnss(self._kernel.boot_ns, fixed_ns + self.true, 0.005)
            mapping = self.clock.mapping()
            self._kernel.wait(1 - delay)
        else:
            self._kernel.wait(1)
            mapping = self.clock.mapping()
        self.true += int(self._ppm * 1e-6 * NANO)
        return mapping


@pytest.mark.parametrize(("seed", "ppm"), [(1, 50.0), (2, -50.0), (3, 0.0)])
def test_the_stated_error_holds_the_true_one_through_late_reports_drift_and_hours_without_a_fix(
    kernel: Kernel, seed: int, ppm: float
) -> None:
    receiver = Receiver(kernel, seed, ppm)
    for second in range(300):
        late = 0.9 if second % 97 == 50 else 0.0
        mapping = receiver.second(late_s=late)
        assert mapping.source == "gnss" and is_honest(mapping, receiver.true) and mapping.error_s < 1.6
    for _ in range(2 * 3_600):
        assert is_honest(receiver.second(heard=False), receiver.true)
    assert receiver.second().error_s < 0.7, "heard again"


@pytest.mark.parametrize("leap_s", [1, -1])
def test_a_leap_second_in_the_receivers_utc_is_followed_within_seconds_and_never_hidden(kernel: Kernel, leap_s: int) -> None:
    receiver = Receiver(kernel, 4, 10.0)
    for _ in range(100):
        receiver.second()
    receiver.true -= leap_s * NANO  # 23:59:60 is told as 23:59:59 again
    errors = []
    for _ in range(LEAP_REPORTS + 1):
        mapping = receiver.second()
        assert is_honest(mapping, receiver.true)
        errors.append(mapping.error_s)
    assert errors[-1] < 0.7 and receiver.clock.rejected == 0


def test_reports_that_are_late_are_no_leap_second(kernel: Kernel) -> None:
    receiver = Receiver(kernel, 5, 0.0)
    for _ in range(70):
        receiver.second()
    for late in (0.6, 0.45, 0.62, 0.5, 0.66, 0.41):
        assert is_honest(receiver.second(late_s=late), receiver.true)
    offset = receiver.clock.mapping().utc_ns - kernel.boot_ns
    assert 0 <= receiver.true - offset < 100_000_000, "still the least delayed one"


@pytest.mark.parametrize("wrong", [-1024 * 7 * 86_400 * NANO, 1024 * 7 * 86_400 * NANO, utc("3236-01-01T00:00:00") - utc(NOON)])
def test_a_receiver_that_loses_its_week_changes_nothing(kernel: Kernel, wrong: int) -> None:
    receiver = Receiver(kernel, 6, 0.0)
    for _ in range(10):
        receiver.second()
    receiver.true += wrong
    for _ in range(20):
        mapping = receiver.second()
        assert is_honest(mapping, receiver.true - wrong) and mapping.source == "gnss"
    assert receiver.clock.rejected == 20


def test_gnss_yields_to_a_synchronised_clock_after_an_hour_and_stays_where_there_is_none(kernel: Kernel) -> None:
    receiver = Receiver(kernel, 7, 0.0)
    receiver.second()
    kernel.wait(GNSS_HOLD_NS / NANO + 5)
    assert receiver.clock.mapping().source == "gnss"
    kernel.synchronised, kernel.real_offset_ns = True, receiver.true
    assert receiver.clock.mapping().source == "ntp"


# --- the recorder's mapping records


def clocks(recording: Recording) -> list[pb.ClockMapping]:
    return recording.decoded("/clock")


@pytest.fixture
def running_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Boot time is the machine's own: threads wait by it."""
    monkeypatch.setattr(gateway.recorder, "CLOCK_SECONDS", 0.1)
    monkeypatch.setattr(gateway.recorder, "SNAPSHOT_SECONDS", 0.1)
    monkeypatch.setattr(gateway.recorder, "HEALTH_SECONDS", 0.1)
    return Kernel(monkeypatch, tmp_path, standing=False)


def test_records_follow_a_system_clock_that_is_stepped_by_an_hour_and_boot_times_do_not_move(
    tmp_path: Path, running_kernel: Kernel
) -> None:
    kernel = running_kernel
    offsets = [utc(NOON) - boottime_ns()]
    offsets += [offsets[0] + HOUR, offsets[0] - HOUR]
    kernel.synchronised, kernel.real_offset_ns = True, offsets[0]
    began = boottime_ns()
    spool = tmp_path / "spool"
    with Running(truck(tmp_path)) as recorder:
        for offset in offsets:
            kernel.real_offset_ns = offset
            seen = recorder._readings.stats().messages
            wait_for(lambda seen=seen: recorder._readings.stats().messages > seen + 6, "mapping records")  # type: ignore[misc]
    ended = boottime_ns()
    recording = Recording(spool)
    said = [mapping.utc_ns - mapping.boottime_ns for mapping in clocks(recording)]
    order = [min(range(3), key=lambda index: abs(offset - offsets[index])) for offset in said]
    assert order == sorted(order) and set(order) == {0, 1, 2}
    for index, mapping in zip(order, clocks(recording), strict=True):
        assert mapping.source == "ntp" and is_honest(Mapping(mapping.boottime_ns, mapping.utc_ns, "ntp", mapping.error_s), offsets[index])
    for topic, messages in recording.messages.items():
        times = [message.log_time for message in messages][topic == "/clock" :]  # the segment's first restates the newest
        assert times == sorted(times) and all(began <= at <= ended for at in times), topic
    published = [message.publish_time for message in recording.messages["/clock"]]
    assert published != sorted(published), "only UTC went back"


def test_1970_at_the_start_is_no_utc_until_a_source_speaks_and_each_change_is_a_record(tmp_path: Path, running_kernel: Kernel) -> None:
    kernel = running_kernel
    kernel.set_date("1970-01-01T00:00:01")
    with Running(truck(tmp_path)) as recorder:
        seen = recorder._readings.stats().messages
        wait_for(lambda: recorder._readings.stats().messages > seen + 4, "records without UTC")
        kernel.set_date(NOON)
        kernel.synchronised = True
        seen = recorder._readings.stats().messages
        wait_for(lambda: recorder._readings.stats().messages > seen + 4, "records by ntp")
    found = clocks(Recording(tmp_path / "spool"))
    assert list(dict.fromkeys(mapping.source for mapping in found)) == ["none", "ntp"]
    assert all(mapping.utc_ns == 0 and math.isinf(mapping.error_s) for mapping in found if mapping.source == "none")


def test_recorders_of_one_boot_say_the_same_of_each_moment(tmp_path: Path, running_kernel: Kernel) -> None:
    kernel = running_kernel
    kernel.set_date(NOON)
    kernel.synchronised = True
    for _ in range(2):
        with Running(truck(tmp_path)) as recorder:
            wait_for(lambda recorder=recorder: recorder._readings.stats().messages > 6, "records")  # type: ignore[misc]
    recording = Recording(tmp_path / "spool")
    assert len({path.parent for path in recording.paths}) == 2
    found = clocks(recording)
    for one in found:
        for other in found:
            apart = (one.utc_ns - one.boottime_ns) - (other.utc_ns - other.boottime_ns)
            assert abs(apart) <= (one.error_s + other.error_s) * NANO
