"""What the center asks and the truck answers: both documents, there and back, in every dialect, and refusals in words."""

from xml.etree import ElementTree as ET

import pytest

from sox.documents import TransducerValue, data_document, parse_device, xep0082
from sox.requests import (
    ANSWERED,
    ASKED,
    BOOKMARK,
    IMAGES,
    LIST_MOST,
    Answer,
    BadAnswer,
    BadRequest,
    Gone,
    Held,
    Place,
    Request,
    answer_document,
    answers_device,
    read_answer,
    read_request,
    request_document,
    requests_device,
    wants_images,
)

UTC = 1_800_000_000_000_000_000
SEGMENT = "truck-1-aaaaaaaa-bbbbbbbb-000007-images"
PLACE = Place(35.3391, 139.4902, 80.0)


def item(**texts: str) -> ET.Element:
    """What any writer might publish."""
    return data_document([TransducerValue(name.rstrip("_"), text, None, xep0082(UTC)) for name, text in texts.items()])


@pytest.mark.parametrize(
    "request_",
    [
        Request("a-1", IMAGES, UTC - 60 * 10**9, UTC, None, UTC),
        Request("a-1", IMAGES, 0, 0, PLACE, UTC),
        Request("a-1", IMAGES, UTC - 10**9, 0, PLACE, UTC),
        Request("a-1", BOOKMARK, 0, 0, None, UTC),
    ],
)
def test_a_request_is_read_as_it_was_written(request_: Request) -> None:
    assert read_request("a-1", ET.fromstring(ET.tostring(request_document(request_)))) == request_


def test_a_bookmark_alone_asks_for_no_images() -> None:
    assert not wants_images(Request("a", BOOKMARK, 0, 0, None, UTC))
    assert wants_images(Request("a", BOOKMARK, UTC, 0, None, UTC)) and wants_images(Request("a", IMAGES, 0, 0, PLACE, UTC))


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({}, "kind is ''"),
        ({"kind": "video", "from_": xep0082(UTC)}, "not images or bookmark"),
        ({"kind": "images"}, "neither a time nor a place"),
        ({"kind": "images", "from_": "yesterday"}, "`from` is not a time"),
        ({"kind": "images", "to": "2027-01-15T08:00:00"}, "not a time with a zone"),
        ({"kind": "images", "from_": xep0082(UTC + 1000), "to": xep0082(UTC)}, "later than"),
        ({"kind": "images", "latitude": "35.3", "longitude": "139.4"}, "go together"),
        ({"kind": "images", "latitude": "x", "longitude": "139.4", "radius": "5"}, "latitude is not a number"),
        ({"kind": "images", "latitude": "nan", "longitude": "139.4", "radius": "5"}, "latitude is not a number"),
        ({"kind": "images", "latitude": "91", "longitude": "139.4", "radius": "5"}, "no place on Earth"),
        ({"kind": "images", "latitude": "35", "longitude": "139.4", "radius": "0"}, "radius"),
        ({"kind": "images", "latitude": "35", "longitude": "139.4", "radius": "1e9"}, "radius"),
    ],
)
def test_a_request_that_cannot_be_followed_is_refused_in_words(texts: dict[str, str], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        read_request("a-1", item(**texts))


def test_a_request_without_a_time_of_asking_or_with_an_id_that_is_none_is_refused() -> None:
    document = "<data><transducerValue id='kind' typedValue='bookmark' timestamp='{}'/></data>"
    with pytest.raises(BadRequest, match="no time at which it was asked"):
        read_request("a", ET.fromstring(document.format("soon")))
    with pytest.raises(BadRequest, match="request id"):
        read_request("../a", ET.fromstring(document.format(xep0082(UTC))))
    with pytest.raises(BadRequest, match="no SoX document"):
        read_request("a", ET.fromstring("<data>&lt;transducerValue</data>"))


def test_a_request_in_keios_dialect_is_read() -> None:
    escaped = (
        "<data>&lt;transducerValue id='kind' rawvalue='images' timestamp='2027-01-15T17:00:00+09:00'/&gt;"
        "&lt;transducerValue id='to' rawvalue='2027-01-15T17:00:00+09:00'/&gt;</data>"
    )
    assert read_request("a", ET.fromstring(escaped)) == Request("a", IMAGES, 0, UTC, None, UTC)


def test_an_answer_is_read_as_it_was_written() -> None:
    held = Held(SEGMENT, 12, 16_000_000, UTC, UTC + 10**9, 4)
    gone = Gone(SEGMENT.replace("7", "8"), UTC, 0, "dropped: disk full")
    answer = Answer("a-1", "sending", "1 of 2", 2, 24, 32_000_000, 1, 16_000_000, 1, (held,), (held._replace(first_utc_ns=0),), (gone,))
    assert read_answer("a-1", ET.fromstring(ET.tostring(answer_document(answer, UTC)))) == answer


def test_an_answer_about_very_many_segments_fits_the_hubs_limit_and_keeps_its_counts() -> None:
    name = "t" * 63
    held = tuple(Held(f"{name}-aaaaaaaa-bbbbbbbb-{n:012d}-images", 1234, 16_000_000, UTC, UTC, 64) for n in range(1000))
    gone = tuple(Gone(one.segment_id, UTC, UTC, "dropped: disk full") for one in held)
    document = answer_document(Answer("a", "found", "", 2000, 9, 9, 1000, 9, 1000, held, held, gone), UTC)
    assert len(ET.tostring(document)) < 250_000
    read = read_answer("a", document)
    assert (read.segments, read.sent_segments, read.gone_segments) == (2000, 1000, 1000)
    assert (len(read.exists), len(read.sent), len(read.gone)) == (LIST_MOST,) * 3 and read.exists == held[:LIST_MOST]


def test_what_an_answer_lists_wrongly_is_left_out_and_an_answer_without_state_says_nothing() -> None:
    entry = f"{SEGMENT} 1 2 - - 1"
    read = read_answer("a", item(state="done", segments="-3", exists=f"../x 1 2 - - 1;{entry};{SEGMENT} a 2 - - 1;", gone=f"{SEGMENT} -"))
    assert read.exists == (Held(SEGMENT, 1, 2, 0, 0, 1),) and read.gone == () and read.segments == 0
    with pytest.raises(BadAnswer, match="state 'lost'"):
        read_answer("a", item(state="lost"))
    with pytest.raises(BadAnswer):
        read_answer("a", ET.fromstring("<data>&lt;x</data>"))


def test_both_devices_are_described() -> None:
    assert [t.id for t in parse_device(requests_device("t_request")).transducers] == list(ASKED)
    assert [t.id for t in parse_device(answers_device("t_answers")).transducers] == list(ANSWERED)
