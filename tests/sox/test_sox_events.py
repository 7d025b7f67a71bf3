"""Events and health as documents: what is written comes back, and what is none is said to be."""

from xml.etree import ElementTree as ET

import pytest

from sox.events import BadEvent, Event, event_document, read_event
from sox.fields import document
from sox.health import BadHealth, Health, health_document, hours, read_health

UTC_NS = 1_793_000_000_123_456_000
EVENT = Event("truck-1", "0123abcd-89ab4567", 12, "shock", "icm20948", '{"peak": 21.5}', 5_000_000_000, UTC_NS)
HEALTH = Health(
    UTC_NS, "0123abcd", 5, True, False, {"readings": 3, "images": 9}, {"readings": 5000, "images": 10**12}, 612_000.5, "truck-1-x", UTC_NS,
    {"gaps": 1, "thinned_images": 12}, "metered", "wwan0", "rule 1: wwan*", UTC_NS, 34e9, "gnss", 0.301,
    {"bmp390": "ok", "sps30": "failed: time-out"}, "upload: cut",
)  # fmt: skip


def wired(element: ET.Element) -> ET.Element:
    return ET.fromstring(ET.tostring(element))


def test_an_event_comes_back_as_it_was_said() -> None:
    assert EVENT.item_id == "0123abcd-89ab4567-000012"
    assert read_event(EVENT.item_id, wired(event_document(EVENT))) == EVENT


def test_an_event_without_clock_has_no_utc_and_its_boot_time() -> None:
    found = read_event(EVENT.item_id, wired(event_document(EVENT._replace(utc_ns=0))))
    assert (found.utc_ns, found.boottime_ns) == (0, 5_000_000_000)


@pytest.mark.parametrize("identity", ["current", "0123abcd-89ab4567", "0123abcd-89ab4567-12", "../0123abcd-89ab4567-000012"])
def test_an_item_with_another_name_is_no_event(identity: str) -> None:
    with pytest.raises(BadEvent):
        read_event(identity, event_document(EVENT))


def test_an_event_without_kind_or_boot_time_is_none() -> None:
    for values in ({"boottime_ns": "5"}, {"event": "shock", "boottime_ns": "soon"}, {"event": "shock", "boottime_ns": "5", "utc": "today"}):
        with pytest.raises(BadEvent):
            read_event(EVENT.item_id, document(values, 0))


def test_health_comes_back_as_it_was_said() -> None:
    assert read_health(wired(health_document(HEALTH))) == HEALTH
    unknown = HEALTH._replace(utc_ns=0, rate=None, oldest_utc=0, last_receipt_utc=0, disk_free=None, clock_error=None, sensors={})
    assert read_health(wired(health_document(unknown))) == unknown


def test_a_reader_passes_over_what_it_does_not_know_and_refuses_what_it_cannot_read() -> None:
    assert read_health(document({"boottime_ns": "5", "of_tomorrow": "x", "bytes.depot": "7"}, 0)).bytes == {"depot": 7}
    for values in ({}, {"boottime_ns": "x"}, {"boottime_ns": "5", "bytes.images": "many"}, {"boottime_ns": "5", "rate": "fast"}):
        with pytest.raises(BadHealth):
            read_health(document(values, 0))


def test_the_backlog_in_hours_is_unknown_while_nothing_moves() -> None:
    assert HEALTH.hours == pytest.approx((10**12 + 5000) / 612_000.5 / 3600)
    assert (hours(0, None), hours(5, None), hours(5, 0.0)) == (0.0, None, None)
