"""The outbox of events, and what the status asks the ledger."""

import sqlite3
from os import rename
from pathlib import Path

import pytest
from gateway_uplink_parts import BOOT_NS, UTC_NS, seal

from gateway import ledger_outbox as outbox
from gateway.clock import NANO
from gateway.ledger import LEDGER_NAME, Ledger, kernel_boot_id
from gateway.ledger_view import view
from gateway.uplink_books import Books
from gateway.uplink_scan import scan
from gateway.uplink_status import RATE_STEP_NS, RATE_STEPS, Rate, View
from sox.events import Event
from sox.segments import Receipt

BOOT = "0123abcd"


def event(number: int, utc_ns: int = 0, boot: str = f"{BOOT}-89ab4567") -> Event:
    return Event("truck-1", boot, number, "shock", "icm20948", "{}", 1000 + number, utc_ns)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / LEDGER_NAME)


def waiting(ledger: Ledger) -> list[Event]:
    return outbox.waiting(ledger, "truck-1", 100)


def test_events_wait_in_the_order_they_came_each_once_over_a_kill(tmp_path: Path, ledger: Ledger) -> None:
    outbox.put(ledger, [event(2, UTC_NS), event(1, UTC_NS)])
    outbox.put(ledger, [event(2, UTC_NS), event(3, UTC_NS)])
    again = Ledger(tmp_path / LEDGER_NAME)  # the first one was not closed
    assert waiting(again) == [event(2, UTC_NS), event(1, UTC_NS), event(3, UTC_NS)]
    outbox.published(again, event(2, UTC_NS), BOOT)
    assert [one.number for one in waiting(again)] == [1, 3]


def test_an_event_without_utc_is_sent_and_once_more_when_the_clock_is_set(ledger: Ledger) -> None:
    outbox.put(ledger, [event(1)])
    outbox.published(ledger, event(1), BOOT)
    assert (waiting(ledger), outbox.counts(ledger)) == ([], (0, 1, 0))
    assert outbox.clocked(ledger, BOOT, UTC_NS) == 1
    assert waiting(ledger) == [event(1, UTC_NS + 1001)]
    outbox.published(ledger, event(1, UTC_NS + 1001), BOOT)
    assert outbox.counts(ledger) == (0, 0, 0)


def test_an_event_whose_clock_was_set_while_it_was_on_its_way_is_sent_again(ledger: Ledger) -> None:
    outbox.put(ledger, [event(1)])
    outbox.clocked(ledger, BOOT, UTC_NS)
    outbox.published(ledger, event(1), BOOT)  # as it was read, without UTC
    assert waiting(ledger) == [event(1, UTC_NS + 1001)]


def test_an_event_of_another_boot_never_gets_a_time_of_this_one(ledger: Ledger) -> None:
    old = event(1, boot="ffffffff-89ab4567")
    outbox.put(ledger, [old, event(2)])
    assert outbox.clocked(ledger, BOOT, UTC_NS) == 1
    outbox.published(ledger, old, BOOT)
    assert [one.number for one in waiting(ledger)] == [2]
    outbox.put(ledger, [event(3)])
    outbox.published(ledger, event(3), BOOT)
    outbox.forget_others(ledger, "ffffffff")  # after a reboot
    assert outbox.counts(ledger) == (1, 0, 0)


def test_a_month_in_a_tunnel_keeps_the_newest_events_and_counts_the_others(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST", 3)
    outbox.put(ledger, [event(number, UTC_NS) for number in range(1, 6)])
    assert [one.number for one in waiting(ledger)] == [3, 4, 5]
    assert outbox.counts(ledger) == (3, 0, 2)


def test_a_disk_that_refuses_changes_nothing(ledger: Ledger) -> None:
    ledger.db.execute("PRAGMA query_only=1")
    with pytest.raises(sqlite3.OperationalError):
        outbox.put(ledger, [event(1)])
    ledger.db.execute("PRAGMA query_only=0")
    outbox.put(ledger, [event(1)])
    assert len(waiting(ledger)) == 1


def test_the_view_tells_the_backlog_by_class_what_was_delivered_and_the_oldest(tmp_path: Path, ledger: Ledger) -> None:
    sizes = {stream: seal(tmp_path, number, stream).stat().st_size for number, stream in ((1, "readings"), (2, "images"), (3, "images"))}
    found, _ = scan(tmp_path, "truck-1", set())
    ledger.add(found)
    images = [one.segment_id for one in found if one.stream == "images"]
    ledger.request(images[:1])
    told = view(ledger)
    assert {name: one.segments for name, one in told.classes.items()} == {"readings": 1, "requested": 1, "images": 1}
    assert told.classes["readings"].bytes == sizes["readings"] and told.delivered_bytes == 0
    assert told.oldest is not None and told.oldest.stream == "readings"
    ledger.db.execute("UPDATE segments SET sha256='a', state='announced' WHERE stream='readings'")
    ledger.receipt(Receipt(told.oldest.segment_id, "stored", "a", told.oldest.size, ""), True)
    assert view(ledger).delivered_bytes == sizes["readings"]
    ledger.forget([told.oldest.segment_id])
    after = view(ledger)
    assert after.delivered_bytes == sizes["readings"] and after.classes["readings"].segments == 0
    assert after.oldest is not None and after.oldest.stream == "images"


async def test_the_oldest_has_the_time_of_its_first_message_though_nobody_has_described_it(tmp_path: Path, ledger: Ledger) -> None:
    seal(tmp_path, 1)
    ledger.add(scan(tmp_path, "truck-1", set())[0])
    looks = View(tmp_path, Books(ledger))
    await looks.look()
    oldest = looks.status()["oldest"]
    assert (oldest["class"], oldest["boottime_ns"], oldest["utc_ns"]) == ("readings", BOOT_NS, UTC_NS)
    assert looks.status()["disk_free_bytes"] > 0 and looks.status()["recorder"] is None


async def test_the_oldest_without_utc_gets_it_from_the_clock_of_this_boot(tmp_path: Path, ledger: Ledger) -> None:
    rename(seal(tmp_path, 1, "images").parent, tmp_path / f"{kernel_boot_id()[:8]}-bbbbbbbb")
    ledger.add(scan(tmp_path, "truck-1", set())[0])
    ledger.db.execute("UPDATE segments SET first_boottime_ns=?, first_utc_ns=0", (BOOT_NS,))
    looks = View(tmp_path, Books(ledger))
    looks.on_datagram({"truck": "truck-1", "boottime_ns": BOOT_NS + 60 * NANO, "utc_ns": UTC_NS, "counts": {"gaps": 2}})
    await looks.look()
    assert looks.status()["oldest"]["utc_ns"] == UTC_NS - 60 * NANO
    assert looks.status()["recorder"]["gaps"] == 2


def test_the_rate_is_of_the_time_in_which_something_waited() -> None:
    rate = Rate()
    rate.add(0, 0, True)
    assert rate.bytes_per_s is None  # too little is known
    for second in range(1, 101):
        rate.add(second * NANO, second * 1000, True)
    assert rate.bytes_per_s == pytest.approx(1000)
    for second in range(101, 1000):  # nothing waits: neither rises nor falls
        rate.add(second * NANO, 100_000, False)
    assert rate.bytes_per_s == pytest.approx(1000)
    for second in range(1000, 1100):  # a tunnel
        rate.add(second * NANO, 100_000, True)
    assert rate.bytes_per_s == pytest.approx(500, rel=0.02)
    for second in range(1100, 1100 + 2 * RATE_STEPS * RATE_STEP_NS // NANO):
        rate.add(second * NANO, 100_000, True)
    assert rate.bytes_per_s == 0
