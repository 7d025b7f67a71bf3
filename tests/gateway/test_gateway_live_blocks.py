"""What the recorder hands to the uplink beside the snapshot: the IMU's second as one block, and every event."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.clock import Clock, boottime_ns
from gateway.journal import Entry, Journal, event
from gateway.live import LiveReceiver, LiveSender
from gateway.live_blocks import MOST_BLOCKS, LiveBlocks
from gateway.live_events import MACHINERY_MOST, MOST_WAITING, LiveEvents
from logbook import block
from logbook.channels import IMU_BLOCK

BOOT = "0123abcd-89ab4567"


class Stream:
    """Where the journal writes; nothing is kept."""

    def write_group(self, group: list[Any], token: object) -> bool:
        return True

    def describe(self, topic: str, metadata: dict[str, str]) -> None:
        """Not looked at."""


@pytest.fixture
def journal() -> Journal:
    return Journal(Stream(), Clock(system=lambda: None))  # type: ignore[arg-type]


@pytest.fixture
def clock() -> Clock:
    return Clock(system=lambda: None)


def entry(at_ns: int, head_boot: int = 7, samples: int = 51) -> Entry:
    times = at_ns + np.arange(samples) * 9_778_000
    return Entry(IMU_BLOCK, at_ns, block.encode(head_boot, times, np.full((samples, 3), at_ns % 1000, np.int16)))


def test_the_blocks_since_the_last_second_go_out_as_one_with_their_columns(tmp_path: Path, journal: Journal, clock: Clock) -> None:
    receiver, sender = LiveReceiver(tmp_path / "live"), LiveSender(tmp_path / "live")
    blocks = LiveBlocks("truck-1", BOOT, clock, journal, sender)
    journal.describe(IMU_BLOCK, {"columns": "[told]"})
    now = boottime_ns()
    clock.observe_gnss(now, 1_793_000_000_000_000_000, 0.1)
    journal.write([entry(now)])
    journal.write([entry(now + 500_000_000)])
    blocks.send()
    blocks.send()  # nothing came since
    [found] = receiver.waiting()
    assert (found["kind"], found["truck"], found["boot"], found["number"]) == ("packed", "truck-1", BOOT, 1)
    assert (found["columns"], found["boottime_ns"], found["utc_ns"]) == ("[told]", now, 1_793_000_000_000_000_000)
    assert 0.1 < found["utc_error_s"] < 1.0
    head_boot, times, _ = block.decode(block.from_live(found["block"]))
    assert (head_boot, len(times), int(times[0]), int(times[51])) == (7, 102, now, now + 500_000_000)
    sender.close()
    receiver.close()


def test_another_boot_of_the_head_or_other_columns_or_a_pause_begin_a_datagram_of_their_own(
    tmp_path: Path, journal: Journal, clock: Clock
) -> None:
    receiver, sender = LiveReceiver(tmp_path / "live"), LiveSender(tmp_path / "live")
    blocks = LiveBlocks("truck-1", BOOT, clock, journal, sender)
    journal.describe(IMU_BLOCK, {"columns": "[a]"})
    journal.write([entry(10**9), entry(15 * 10**8), entry(2 * 10**9, head_boot=8), entry(9 * 10**9, head_boot=8)])
    journal.describe(IMU_BLOCK, {"columns": "[b]"})
    journal.write([entry(95 * 10**8, head_boot=8)])
    blocks.send()
    found = receiver.waiting()
    assert [(one["number"], one["columns"], one["boottime_ns"] // 10**8) for one in found] == [
        (1, "[a]", 10), (2, "[a]", 20), (3, "[a]", 90), (4, "[b]", 95),
    ]  # fmt: skip
    assert all(one["utc_ns"] == 0 and one["utc_source"] == "none" and one["utc_error_s"] is None for one in found)
    sender.close()
    receiver.close()


def test_a_main_thread_that_is_late_costs_the_oldest_blocks_and_counts_them(tmp_path: Path, journal: Journal, clock: Clock) -> None:
    sender = LiveSender(tmp_path / "live")
    blocks = LiveBlocks("truck-1", BOOT, clock, journal, sender)
    for index in range(MOST_BLOCKS + 3):
        journal.write([entry((index + 1) * 500_000_000, samples=1)])
    assert blocks.passed_over == 3
    sender.close()


def test_an_event_goes_out_at_once_and_one_that_nobody_took_with_the_next_second(tmp_path: Path, journal: Journal, clock: Clock) -> None:
    sender = LiveSender(tmp_path / "live")
    events = LiveEvents("truck-1", BOOT, clock, journal, sender)
    journal.write([event("shock", "icm20948", '{"peak": 21}', 5)])  # no uplink yet
    receiver = LiveReceiver(tmp_path / "live")
    journal.write([event("bookmark", "button", "", 6)])
    told = [(one["kind"], one["number"], one["event"], one["source"], one["detail"], one["boottime_ns"]) for one in receiver.waiting()]
    assert told == [("event", 1, "shock", "icm20948", '{"peak": 21}', 5), ("event", 2, "bookmark", "button", "", 6)]
    events.send()
    assert receiver.waiting() == []
    sender.close()
    receiver.close()


def test_the_newest_events_wait_for_an_uplink_and_a_loose_contact_does_not_crowd_them_out(
    tmp_path: Path, journal: Journal, clock: Clock
) -> None:
    sender = LiveSender(tmp_path / "live")
    events = LiveEvents("truck-1", BOOT, clock, journal, sender)
    journal.write([event("sensor_state", "bmp390", f"{index}", index) for index in range(1000)])
    assert events.passed_over == 1000 - MACHINERY_MOST
    for index in range(MOST_WAITING):
        journal.write([event("bookmark", "button", "", index)])
    assert events.passed_over == 1000  # the machinery's 60 had to go for the truck's own
    receiver = LiveReceiver(tmp_path / "live")
    heard = []
    for _ in range(math.ceil(MOST_WAITING / 10) + 1):  # a datagram socket queues about ten
        events.send()
        heard += receiver.waiting()
    assert [one["boottime_ns"] for one in heard] == list(range(MOST_WAITING))
    sender.close()
    receiver.close()


def test_of_several_snapshots_the_newest_counts_and_of_all_else_each(tmp_path: Path) -> None:
    receiver, sender = LiveReceiver(tmp_path / "live"), LiveSender(tmp_path / "live")
    for datagram in ({"number": 1}, {"kind": "event", "number": 1}, {"number": 2}, {"kind": "packed", "number": 1}):
        sender.send(datagram)
    assert receiver.waiting() == [{"kind": "event", "number": 1}, {"number": 2}, {"kind": "packed", "number": 1}]
    assert receiver.waiting() == []
    sender.close()
    receiver.close()
