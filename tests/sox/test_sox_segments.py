"""Announcements and receipts: what one side writes the other reads back, in any dialect, and nothing that is not of the format."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from logbook.segment import Segments
from sox.documents import TransducerValue, data_document, parse_data, parse_device, xep0082
from sox.segments import (
    ANNOUNCED,
    RECEIPTED,
    REFUSED,
    STORED,
    Announcement,
    BadAnnouncement,
    BadReceipt,
    Receipt,
    announcement_document,
    announcements_device,
    parse_segment_id,
    read_announcement,
    read_receipt,
    receipt_document,
    receipts_device,
)  # fmt: skip

ID = "truck-1-0123abcd-89ab4567-000001-readings"
UTC_NS = 1_800_000_000_000_001_000
GOOD = Announcement(ID, "https://127.0.0.1:8443/upload/x", 1000, "ab" * 32, "readings", 1, 2, UTC_NS, UTC_NS + 1000, "truck-1")


def item(**texts: str) -> ET.Element:
    return data_document([TransducerValue(name, text, None, xep0082(0)) for name, text in texts.items()])


def announced(**changes: str) -> ET.Element:
    return item(**{value.id: value.typed or "" for value in parse_data(announcement_document(GOOD))} | changes)


def test_an_announcement_is_read_as_it_was_written_with_and_without_clock() -> None:
    for announcement in (GOOD, GOOD._replace(first_utc_ns=0, last_utc_ns=0)):
        assert read_announcement(ID, announcement_document(announcement)) == announcement
    values = {value.id: value for value in parse_data(announcement_document(GOOD))}
    assert tuple(values) == ANNOUNCED
    assert {value.timestamp for value in values.values()} == {xep0082(UTC_NS + 1000)}, "time of collection: that of the newest reading"


@pytest.mark.parametrize("receipt", [Receipt(ID, STORED, "ab" * 32, 5, ""), Receipt(ID, REFUSED, "", 0, "damaged segment: …")])
def test_a_receipt_is_read_as_it_was_written(receipt: Receipt) -> None:
    assert read_receipt(ID, receipt_document(receipt, UTC_NS)) == receipt
    assert tuple(value.id for value in parse_data(receipt_document(receipt, UTC_NS))) == RECEIPTED


def test_raw_only_dialects_and_other_cases_are_read() -> None:
    raw = "".join(f'<TransducerValue ID="{value.id}" rawValue="{value.typed}"/>' for value in parse_data(announcement_document(GOOD)))
    assert read_announcement(ID, ET.fromstring(f"<data>{raw}</data>")) == GOOD
    assert read_announcement(ID, announced(sha256="AB" * 32)).sha256 == "ab" * 32


def test_an_id_of_the_recorders_segments_has_its_parts_and_other_names_have_none(tmp_path: Path) -> None:
    sealed: list[Path] = []
    segments = Segments(
        tmp_path, "truck-1", "boot", "readings", "0123abcd-89ab4567", lambda: 1, 60.0,
        on_durable=lambda token: None, on_sealed=sealed.append, on_error=lambda error: None,
    )  # fmt: skip
    segments.write("/event", 1, 0, b"")
    assert segments.close()
    parts = parse_segment_id(f"truck-1-{sealed[0].parent.name}-{sealed[0].stem}")
    assert parts == ("truck-1", "0123abcd", "89ab4567", 1, "readings")


@pytest.mark.parametrize("item_id", ["", "../../etc/passwd", ID + "\n", ID + "/..", "truck_1-0123abcd-89ab4567-000001-readings",
                                     "truck-1-0123abcd-89ab4567-1-readings", "truck-1-0123ABCD-89ab4567-000001-readings",
                                     "-0123abcd-89ab4567-000001-readings", "truck-1-0123abcd-89ab4567-000001-events"])  # fmt: skip
def test_an_id_that_is_no_segment_is_refused_either_way(item_id: str) -> None:
    assert parse_segment_id(item_id) is None
    with pytest.raises(BadAnnouncement):
        read_announcement(item_id, announced())
    with pytest.raises(BadReceipt):
        read_receipt(item_id, receipt_document(Receipt(ID, STORED, "ab", 1, ""), 0))


@pytest.mark.parametrize("changes", [
    {"url": ""}, {"url": "https://x/" + "y" * 5000}, {"size": "-1"}, {"size": "1e3"}, {"size": "９"}, {"size": ""}, {"size": "1" * 19},
    {"sha256": "ab" * 31}, {"sha256": "zz" * 32}, {"sha256": ""}, {"stream": "images"}, {"truck": "truck-2"},
    {"first_boottime_ns": "x"}, {"last_boottime_ns": ""}, {"first_utc": "yesterday"}, {"last_utc": "2026-05-09T01:02:03"},
])  # fmt: skip
def test_a_field_that_does_not_fit_is_refused_with_words(changes: dict[str, str]) -> None:
    with pytest.raises(BadAnnouncement) as caught:
        read_announcement(ID, announced(**changes))
    assert str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize("texts", [{}, {"state": "perhaps"}, {"state": "stored"}, {"state": "stored", "size": "many"}])
def test_a_receipt_that_says_nothing_usable_is_refused(texts: dict[str, str]) -> None:
    with pytest.raises(BadReceipt):
        read_receipt(ID, item(**texts))


def test_items_that_are_no_document_are_refused() -> None:
    text = ET.fromstring("<data>&lt;broken</data>")
    with pytest.raises(BadAnnouncement):
        read_announcement(ID, text)
    with pytest.raises(BadReceipt):
        read_receipt(ID, text)


def test_the_devices_describe_what_is_sent() -> None:
    for device, names in ((announcements_device("truck-1_segments"), ANNOUNCED), (receipts_device("truck-1_receipts"), RECEIPTED)):
        assert tuple(transducer.id for transducer in parse_device(device).transducers) == names
