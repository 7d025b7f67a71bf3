"""SoX over MQTT as Keio's sox_mqtt has it (facts: sox.md 1.6): the JSON of its two kinds of topics, from SoX documents and back.

    <device>        {"<id>": {"raw_value": v, "publish_timestamp": "YYYY-MM-DD HH:MM:SS.ffffff"}, …}
    <device>_meta   {"node_name": "<device>_meta", "location": [lat, lng], "transducers": {"<id>": {"unit", "min_value", "max_value",
                     "description"}}, "descrption": "…", "create_timestamp": "…"}

Written exactly so, the misspelled key included; read with either spelling, `units` for `unit`, a `T` in times, a zone in times, and without
whatever is missing. Times there are naive: of a zone that both ends must know (Keio's: JST). In a zone with summer time the repeated hour
is read as its first.

Values: SoX declares a unit times 10^unitScaler, MQTT a unit alone; so numbers are multiplied out, in decimal, and what is read back means
the same. A text stays a text, also one of digits with a leading zero. A truck has no location of its own: [null, null].
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from sox.documents import TYPE_CHANNEL, UNIT_OF_TEXT, Device, TransducerValue, element, parse_xep0082, xep0082

MOST_BYTES = 250_000  # as much as the hub takes in one item
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BadMessage(ValueError):
    """A message from the broker that says nothing; the text says why."""


class Values(NamedTuple):
    """Values for the other side, and the names of those that could not be taken over, with the reason."""

    values: list[TransducerValue]
    left_out: dict[str, str]


# -- from SoX


def data_json(values: Sequence[TransducerValue], scalers: Mapping[str, int | None], zone: tzinfo) -> tuple[str, dict[str, str]]:
    """The JSON of a data topic, "" if nothing can be said, and the ids that were left out with the reason. `scalers` are of the device's
    description; ids that it does not have count as they are."""
    said: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for value in values:
        text = value.typed if value.typed is not None else value.raw
        scaler = scalers.get(value.id, 0)
        if text is None:
            left_out[value.id] = "no value"
        elif not value.timestamp:
            left_out[value.id] = "no time"
        elif scaler is None:
            left_out[value.id] = "its unitScaler is not readable"
        else:
            said[value.id] = {"raw_value": _scaled(text, scaler), "publish_timestamp": local_time(parse_xep0082(value.timestamp), zone)}
    return (_dumps(said) if said else ""), left_out


def meta_json(name: str, device: Device, utc_ns: int, zone: tzinfo) -> str:
    """The JSON of the meta topic of the device `name`, described at UTC `utc_ns` as far as that is known."""
    transducers = {}
    for transducer in device.transducers:
        low, high = (_times_ten(bound, transducer.scaler or 0) for bound in (transducer.low, transducer.high))
        transducers[transducer.id] = {
            "unit": transducer.units, "min_value": low, "max_value": high, "description": transducer.name,
        }  # fmt: skip
    return _dumps(
        {
            "node_name": f"{name}_meta",
            "location": [None, None],
            "transducers": transducers,
            "descrption": device.name,
            "create_timestamp": local_time(utc_ns, zone),
        }
    )


# -- from MQTT


def read_data(payload: bytes, zone: tzinfo) -> Values:
    """The values of a data topic; raises BadMessage."""
    values, left_out = [], {}
    for name, said in _object(payload).items():
        raw = said.get("raw_value") if isinstance(said, dict) else None
        text = _text(raw)
        try:
            timestamp = xep0082(utc_of(str(said.get("publish_timestamp", "")) if isinstance(said, dict) else "", zone))
        except ValueError:
            timestamp = ""
        if not name or text is None:
            left_out[name] = "no value"
        elif not timestamp:
            left_out[name] = "no time"
        else:
            values.append(TransducerValue(name, text, text, timestamp))
    return Values(values, left_out)


def read_meta(name: str, payload: bytes) -> ET.Element:
    """The SoX description of the device `name` by its meta topic; raises BadMessage."""
    said = _object(payload)
    transducers = said.get("transducers")
    if not isinstance(transducers, dict):
        raise BadMessage("no `transducers`")
    description = said.get("descrption", said.get("description"))
    root = element("device", {"name": _name(str(description or name)), "id": name, "type": TYPE_CHANNEL})
    for identity, fields in transducers.items():
        fields = fields if isinstance(fields, dict) else {}
        unit = fields.get("unit", fields.get("units"))
        attributes = {"name": _name(str(fields.get("description") or identity)), "id": identity}
        attributes["units"] = str(unit) if unit else UNIT_OF_TEXT
        for key, attribute in (("min_value", "minValue"), ("max_value", "maxValue")):
            if isinstance(fields.get(key), int | Decimal) and not isinstance(fields[key], bool):
                attributes[attribute] = str(fields[key])
        root.append(element("transducer", attributes))
    return root


# -- times and numbers


def local_time(utc_ns: int, zone: tzinfo) -> str:
    """UTC ns as naive local text with microseconds (rounded down)."""
    return (_EPOCH + timedelta(microseconds=utc_ns // 1000)).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S.%f")


def utc_of(text: str, zone: tzinfo) -> int:
    """UTC ns of a local time; a zone that stands in it counts. Raises ValueError."""
    moment = datetime.fromisoformat(text.strip())
    if len(text.strip()) <= 10:
        raise ValueError(f"a date is no time: {text!r}")
    since = (moment if moment.tzinfo else moment.replace(tzinfo=zone)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


def _scaled(text: str, scaler: int) -> int | float | str:
    if not _NUMBER.fullmatch(text):
        return text
    number = Decimal(text).scaleb(scaler)
    whole = number == number.to_integral_value() and "." not in text and "e" not in text.lower() and scaler >= 0
    return int(number) if whole else float(number)


def _times_ten(bound: float | None, scaler: int) -> float | None:
    return None if bound is None else float(Decimal(repr(bound)).scaleb(scaler))


def _name(text: str) -> str:
    """A name that Keio's readers, which undo escapes before they parse, can read (sox/documents.py)."""
    return text.replace("<", "below ").replace(">", "above ")


def _text(raw: Any) -> str | None:
    """A JSON value as the text of a transducer value; None where there is none."""
    match raw:
        case None:
            return None
        case bool():
            return "true" if raw else "false"
        case int() | Decimal():
            return str(raw)
        case str():
            return raw
    return json.dumps(raw, ensure_ascii=False, default=float)


def _object(payload: bytes) -> dict[str, Any]:
    if len(payload) > MOST_BYTES:
        raise BadMessage(f"{len(payload)} bytes, more than {MOST_BYTES}")
    try:
        said = json.loads(payload, parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:  # also bytes that are no UTF-8
        raise BadMessage(f"no JSON: {str(error)[:100]}") from error
    if not isinstance(said, dict):
        raise BadMessage("not a JSON object")
    return said


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _dumps(said: dict[str, Any]) -> str:
    return json.dumps(said, ensure_ascii=False, allow_nan=False)
