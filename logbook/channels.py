"""Which messages a segment holds: topic -> encoding and schema (docs/formats.md 2), and how a message becomes an object again.

Schema records carry a FileDescriptorSet with all dependencies, as Foxglove expects of the encoding `protobuf`, and no more: the
summary repeats them, and cruisers.proto as a whole in each of ten schemas was most of a quiet minute's file."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.LocationFix_pb2 import LocationFix
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError, Message

from logbook.schemas import cruisers_pb2

READINGS = "readings"
IMAGES = "images"
STREAMS = (READINGS, IMAGES)

PROTOBUF = "protobuf"
BLOCK = "cruisers-block"

IMU_BLOCK = "/imu/block"
IMU = "/imu"
POSITION = "/position"
FIX = "/position/fix"
TRIM = "/trim"
HEAD_FRAMES = "/head/frames"
CLOCK = "/clock"
GAP = "/gap"
EVENT = "/event"
HEALTH = "/health"
BOX_FRAMES = "/box/frames"

_SLOW_SENSORS = ("bmp390", "sht45", "opt3001", "as7331", "sps30", "veml7700", "pms5003", "first_fleet", "neo_m9n")
_CAMERA = "/camera/"

_MESSAGES: tuple[type[Message], ...] = (
    cruisers_pb2.Imu,
    cruisers_pb2.Reading,
    cruisers_pb2.Position,
    cruisers_pb2.Trim,
    cruisers_pb2.HeadFrames,
    cruisers_pb2.ClockMapping,
    cruisers_pb2.Gap,
    cruisers_pb2.Event,
    cruisers_pb2.Health,
    cruisers_pb2.BoxFrames,
    LocationFix,
    CompressedImage,
)
_BY_SCHEMA: dict[str, type[Message]] = {message.DESCRIPTOR.full_name: message for message in _MESSAGES}


class ChannelType(NamedTuple):
    """One topic: its message encoding and the full name of its schema ("" for none)."""

    topic: str
    encoding: str
    schema: str


class WrongMessage(ValueError):
    """Bytes that are not the message which their channel promises."""


def reading_topic(sensor: str) -> str:
    """The topic of a slow sensor's samples, e.g. /reading/bmp390."""
    return f"/reading/{sensor}"


def camera_topic(name: str) -> str:
    """The topic of the camera `name`'s images."""
    return _CAMERA + name


def channel_types(stream: str, cameras: Sequence[str] = ()) -> list[ChannelType]:
    """All channels of a stream, in the order of their ids (from 1). `cameras` are topics or names; only `images` has them.

    Raises ValueError for a stream that does not exist or a camera among the readings."""
    if stream == READINGS:
        if cameras:
            raise ValueError("cameras belong to the stream of images")
        return [
            ChannelType(IMU_BLOCK, BLOCK, ""),
            _protobuf(IMU, cruisers_pb2.Imu),
            *(_protobuf(reading_topic(sensor), cruisers_pb2.Reading) for sensor in _SLOW_SENSORS),
            _protobuf(POSITION, cruisers_pb2.Position),
            _protobuf(FIX, LocationFix),
            _protobuf(TRIM, cruisers_pb2.Trim),
            _protobuf(HEAD_FRAMES, cruisers_pb2.HeadFrames),
            _protobuf(CLOCK, cruisers_pb2.ClockMapping),
            _protobuf(GAP, cruisers_pb2.Gap),
            _protobuf(EVENT, cruisers_pb2.Event),
            _protobuf(HEALTH, cruisers_pb2.Health),
            _protobuf(BOX_FRAMES, cruisers_pb2.BoxFrames),
        ]
    if stream == IMAGES:
        topics = [camera if camera.startswith(_CAMERA) else camera_topic(camera) for camera in cameras]
        return [
            *(_protobuf(topic, CompressedImage) for topic in topics),
            _protobuf(GAP, cruisers_pb2.Gap),
            _protobuf(EVENT, cruisers_pb2.Event),
        ]
    raise ValueError(f"no stream {stream!r}: {' or '.join(STREAMS)}")


def descriptor_set(schema: str) -> bytes:
    """The serialized FileDescriptorSet of one of our schemas with everything it needs, dependencies first.

    A message of a file with several (cruisers.proto) comes in a file of its own, e.g. cruisers/Gap.proto, as Foxglove has them: the same
    name has the same content in every schema, so a reader may keep all of them in one pool."""
    files = FileDescriptorSet()
    seen: set[str] = set()

    def add(message: Any) -> None:  # a Descriptor, of whichever implementation protobuf runs on
        file = _file_of(message)
        if file.name in seen:
            return
        seen.add(file.name)
        for needed in _needed(message):
            add(needed)
        files.file.append(file)

    add(_BY_SCHEMA[schema].DESCRIPTOR)
    return files.SerializeToString(deterministic=True)


def parse(encoding: str, schema: str, data: bytes) -> Message | None:
    """The message in `data`; None where the channel is not protobuf or its schema is not one of ours. Raises WrongMessage."""
    if encoding != PROTOBUF or schema not in _BY_SCHEMA:
        return None
    try:
        return _BY_SCHEMA[schema].FromString(data)
    except DecodeError as error:
        raise WrongMessage(f"no {schema}: {error}") from error


def _protobuf(topic: str, message: type[Message]) -> ChannelType:
    return ChannelType(topic, PROTOBUF, message.DESCRIPTOR.full_name)


def _file_of(message: Any) -> FileDescriptorProto:
    """The file that defines a top-level message: its own, or the part of a common one that defines it."""
    file = FileDescriptorProto()
    if len(message.file.message_types_by_name) == 1:
        message.file.CopyToProto(file)
        return file
    package = message.file.package
    file.name, file.package, file.syntax = f"{package}/{message.name}.proto", package, "proto3"
    file.dependency.extend(_file_of(needed).name for needed in _needed(message))
    message.CopyToProto(file.message_type.add())
    return file


def _needed(message: Any) -> list[Any]:
    """The other top-level messages that the fields of `message` (and of messages in it, as a map's entry) name, in their order."""

    def fields(kind: Any) -> Iterator[Any]:
        for field in kind.fields:
            if field.message_type is not None:
                yield field.message_type
        for nested in kind.nested_types:
            yield from fields(nested)

    found: dict[str, Any] = {}
    for kind in fields(message):
        while kind.containing_type is not None:
            kind = kind.containing_type
        if kind.full_name != message.full_name:
            found[kind.full_name] = kind
    return list(found.values())
