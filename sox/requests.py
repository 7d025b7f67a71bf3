"""What the center asks of a truck, and what the truck answers (docs/formats.md 5): requests one way, answers the other.

A request is an item on `<truck>_request_data` (the center writes), an answer one on `<truck>_answers_data` (the truck writes); both have
the request's id as item id, so the newest answer replaces the one before. Both sides write and read with what stands here. Readers take
every dialect of SoX (sox/documents.py) and say in words what a request lacks: those words are the truck's refusal.

Limits: an answer lists at most LIST_MOST segments of a kind (oldest first; an item may have 250,000 bytes); its counts are always whole.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree as ET

from sox.documents import DocumentError, TransducerValue, data_document, device_document, parse_data, parse_xep0082, xep0082
from sox.segments import parse_segment_id

IMAGES, BOOKMARK = "images", "bookmark"
KINDS = (IMAGES, BOOKMARK)
FOUND, SENDING, DONE, REFUSED = "found", "sending", "done", "refused"
STATES = (FOUND, SENDING, DONE, REFUSED)
FINAL = (DONE, REFUSED)
ASKED = ("kind", "from", "to", "latitude", "longitude", "radius")
COUNTED = ("segments", "images", "bytes", "sent_segments", "sent_bytes", "gone_segments")
LISTS = ("exists", "sent", "gone")
ANSWERED = ("state", "reason", *COUNTED, *LISTS)
LIST_MOST = 300
RADIUS_MOST = 50_000.0  # m; a city
REASON_MOST = 1000  # characters that a reader keeps

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NUMBER = re.compile(r"[0-9]{1,18}")
_HOW = re.compile(r"[^;\s]+(?: [^;\s]+)*")


class BadRequest(ValueError):
    """Why a request cannot be followed, in words for who asked."""


class BadAnswer(ValueError):
    """An item of the answers node that says nothing; the text says why."""


class Place(NamedTuple):
    """A circle: degrees north and east, metres."""

    latitude: float
    longitude: float
    radius: float


class Request(NamedTuple):
    """What is asked: images between two moments (UTC ns; 0: not bounded there), or taken within a place, or both; a bookmark may do
    without either. `asked_utc_ns`: when, by the center's clock."""

    request_id: str
    kind: str
    from_utc_ns: int
    to_utc_ns: int
    place: Place | None
    asked_utc_ns: int


class Held(NamedTuple):
    """A segment with images of the request that still exists, on the truck or delivered: of the images outside of events one in
    `keep_every` is left. UTC in ns, 0: unknown."""

    segment_id: str
    images: int
    bytes: int
    first_utc_ns: int
    last_utc_ns: int
    keep_every: int


class Gone(NamedTuple):
    """A segment with images of the request that is nowhere any more, and how that came."""

    segment_id: str
    first_utc_ns: int
    last_utc_ns: int
    how: str


class Answer(NamedTuple):
    """What became of a request. Counts are of all segments with images of the request that exist or were sent, and of those that are gone;
    the lists may be shorter (LIST_MOST). `exists`: on the truck, not yet receipted; `sent`: the center has them."""

    request_id: str
    state: str
    reason: str
    segments: int = 0
    images: int = 0
    bytes: int = 0
    sent_segments: int = 0
    sent_bytes: int = 0
    gone_segments: int = 0
    exists: tuple[Held, ...] = ()
    sent: tuple[Held, ...] = ()
    gone: tuple[Gone, ...] = ()


def check(request: Request) -> Request:
    """`request` itself; raises BadRequest with what is wrong with it."""
    if not _ID.fullmatch(request.request_id):
        raise BadRequest("the request id must be 1 to 64 letters, digits and . _ -")
    if request.kind not in KINDS:
        raise BadRequest(f"kind is {request.kind[:40]!r}, not images or bookmark")
    if not request.asked_utc_ns:
        raise BadRequest("no time at which it was asked")
    place = request.place
    if place is not None:
        if not (-90 <= place.latitude <= 90 and -180 <= place.longitude <= 180):
            raise BadRequest("latitude and longitude are no place on Earth, in degrees")
        if not 0 < place.radius <= RADIUS_MOST:
            raise BadRequest(f"radius is not above 0 and up to {RADIUS_MOST:g} m")
    if request.to_utc_ns and request.from_utc_ns > request.to_utc_ns:
        raise BadRequest("`from` is later than `to`")
    if request.kind == IMAGES and not request.from_utc_ns and not request.to_utc_ns and place is None:
        raise BadRequest("neither a time nor a place is asked for")
    return request


def wants_images(request: Request) -> bool:
    """Whether images are asked for: a bookmark alone only marks the moment."""
    return request.kind == IMAGES or bool(request.from_utc_ns or request.to_utc_ns) or request.place is not None


def requests_device(device: str) -> ET.Element:
    """The description of the asking device, for its meta node."""
    return device_document(device, list(ASKED))


def answers_device(device: str) -> ET.Element:
    """The description of the answering device, for its meta node."""
    return device_document(device, list(ANSWERED))


def request_document(request: Request) -> ET.Element:
    """The item that asks; raises BadRequest for what no truck would follow."""
    check(request)
    values = {"kind": request.kind, "from": _utc(request.from_utc_ns), "to": _utc(request.to_utc_ns)}
    if request.place is not None:
        values |= {name: f"{number:.10g}" for name, number in request.place._asdict().items()}
    timestamp = xep0082(request.asked_utc_ns)
    return data_document([TransducerValue(name, value, None, timestamp) for name, value in values.items() if value])


def answer_document(answer: Answer, utc_ns: int) -> ET.Element:
    """The item that answers at UTC `utc_ns` (0: the truck has no clock; it is then said to be of 1970)."""
    texts = {name: str(getattr(answer, name)) for name in ("state", "reason", *COUNTED)}
    texts["exists"], texts["sent"] = _held_text(answer.exists), _held_text(answer.sent)
    texts["gone"] = ";".join(
        f"{gone.segment_id} {_utc(gone.first_utc_ns) or '-'} {_utc(gone.last_utc_ns) or '-'} {gone.how}" for gone in answer.gone[:LIST_MOST]
    )
    timestamp = xep0082(utc_ns)
    return data_document([TransducerValue(name, text, None, timestamp) for name, text in texts.items()])


def read_request(item_id: str, element: ET.Element) -> Request:
    """The request in item `item_id` of a request node; raises BadRequest."""
    try:
        values = parse_data(element)
    except DocumentError as error:
        raise BadRequest(f"no SoX document: {error}") from error
    texts = _texts(values)
    asked = max((parse_xep0082(value.timestamp) for value in values if value.timestamp), default=0)
    numbers = [_number(texts, name) for name in Place._fields]
    given = [number for number in numbers if number is not None]
    if given and len(given) < len(numbers):
        raise BadRequest("latitude, longitude and radius go together")
    place = Place(*given) if given else None
    return check(Request(item_id, texts.get("kind", ""), _moment(texts, "from"), _moment(texts, "to"), place, asked))


def read_answer(item_id: str, element: ET.Element) -> Answer:
    """The answer in item `item_id` of an answers node; raises BadAnswer. What it lists wrongly is left out, the rest counts."""
    try:
        texts = _texts(parse_data(element))
    except DocumentError as error:
        raise BadAnswer(f"answer {item_id!r}: {error}") from error
    state = texts.get("state", "")
    if state not in STATES:
        raise BadAnswer(f"answer {item_id!r}: state {state[:40]!r}")
    counts = {name: int(text) for name in COUNTED if _NUMBER.fullmatch(text := texts.get(name, ""))}
    held = {name: tuple(_read_held(texts.get(name, ""))) for name in ("exists", "sent")}
    answer = Answer(item_id, state, texts.get("reason", "")[:REASON_MOST], gone=tuple(_read_gone(texts.get("gone", ""))))
    return answer._replace(**counts, **held)  # type: ignore[arg-type]  # mypy knows one type for all keywords


def _held_text(held: Sequence[Held]) -> str:
    # Spaces and semicolons: quotation marks of JSON would take six bytes each in an attribute.
    return ";".join(
        f"{one.segment_id} {one.images} {one.bytes} {_utc(one.first_utc_ns) or '-'} {_utc(one.last_utc_ns) or '-'} {one.keep_every}"
        for one in held[:LIST_MOST]
    )


def _read_held(text: str) -> list[Held]:
    found = []
    for entry in text.split(";")[:LIST_MOST]:
        match entry.split(" "):
            case [segment_id, images, size, first, last, keep_every] if parse_segment_id(segment_id) is not None:
                if all(_NUMBER.fullmatch(number) for number in (images, size, keep_every)):
                    found.append(Held(segment_id, int(images), int(size), _lenient(first), _lenient(last), int(keep_every)))
    return found


def _read_gone(text: str) -> list[Gone]:
    found = []
    for entry in text.split(";")[:LIST_MOST]:
        segment_id, *rest = entry.split(" ", 3)
        if len(rest) == 3 and parse_segment_id(segment_id) is not None and _HOW.fullmatch(rest[2]):
            found.append(Gone(segment_id, _lenient(rest[0]), _lenient(rest[1]), rest[2][:REASON_MOST]))
    return found


def _texts(values: Sequence[TransducerValue]) -> dict[str, str]:
    """id -> typed value (raw where a dialect sends only that)."""
    return {value.id: (value.typed if value.typed is not None else value.raw or "").strip() for value in values}


def _number(texts: dict[str, str], key: str) -> float | None:
    text = texts.get(key, "")
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadRequest(f"{key} is not a number: {text[:40]!r}")
    return number


def _moment(texts: dict[str, str], key: str) -> int:
    text = texts.get(key, "")
    try:
        return parse_xep0082(text) if text else 0
    except (ValueError, OverflowError) as error:
        raise BadRequest(f"`{key}` is not a time with a zone: {text[:40]!r}") from error


def _lenient(text: str) -> int:
    try:
        return 0 if text == "-" else parse_xep0082(text)
    except (ValueError, OverflowError):
        return 0


def _utc(utc_ns: int) -> str:
    return xep0082(utc_ns) if utc_ns else ""
