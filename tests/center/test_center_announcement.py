"""Announcements come from outside: whatever is not exactly a segment of that truck on this hub is not followed."""

import pytest

from center.announcement import BadAnnouncement, Receipt, parse, texts
from sox.documents import TransducerValue

ID = "truck-1-0123abcd-89ab4567-000001-readings"
HOSTS = ["hub.example", "127.0.0.1"]


def fields(**changes: str) -> dict[str, str]:
    good = {
        "url": "https://127.0.0.1:8443/upload/x", "size": "1000", "sha256": "ab" * 32, "stream": "readings",
        "first_boottime_ns": "1", "last_boottime_ns": "2", "first_utc": "", "last_utc": "", "truck": "truck-1",
    }  # fmt: skip
    return good | changes


def test_a_good_announcement_is_read():
    announcement = parse("truck-1", ID, fields(), HOSTS, 10_000)
    assert (announcement.boot, announcement.stream, announcement.size) == ("0123abcd", "readings", 1000)


def test_a_name_below_the_hub_is_the_hub():
    assert parse("truck-1", ID, fields(url="https://upload.hub.example/x"), HOSTS, 10_000).url.endswith("/x")


@pytest.mark.parametrize("item_id", ["", "../../etc/passwd", "truck-2-0123abcd-89ab4567-000001-readings", ID + "\n", ID + "/..",
                                     "truck-1-0123abcd-89ab4567-1-readings", "truck-1-0123ABCD-89ab4567-000001-readings"])  # fmt: skip
def test_an_id_that_is_no_segment_of_this_truck_is_refused(item_id):
    with pytest.raises(BadAnnouncement):
        parse("truck-1", item_id, fields(), HOSTS, 10_000)


@pytest.mark.parametrize("changes", [
    {"url": ""}, {"url": "http://127.0.0.1/x"}, {"url": "file:///etc/passwd"}, {"url": "https://evil.example/x"},
    {"url": "https://hub.example.evil.example/x"}, {"url": "https://127.0.0.1@evil.example/x"}, {"url": "https://[broken/x"},
    {"url": "https://nothub.example/x"}, {"size": "0"}, {"size": "-1"}, {"size": "10001"}, {"size": "1e3"}, {"size": "９"}, {"size": ""},
    {"sha256": "ab" * 31}, {"sha256": "zz" * 32}, {"sha256": ""}, {"stream": "images"}, {"truck": "truck-2"}, {"first_boottime_ns": "x"},
])  # fmt: skip
def test_a_field_that_does_not_fit_is_refused_with_words(changes):
    with pytest.raises(BadAnnouncement) as caught:
        parse("truck-1", ID, fields(**changes), HOSTS, 10_000)
    assert str(caught.value)


def test_raw_only_dialects_are_read():
    assert texts([TransducerValue("url", None, "https://x", "")]) == {"url": "https://x"}


def test_a_receipt_has_the_values_of_the_format():
    assert Receipt(ID, "stored", "ab", 5, "").values() == [("state", "stored"), ("sha256", "ab"), ("size", "5"), ("reason", "")]
