"""Schemas: the committed generated files are what protoc gives, and every channel describes itself completely."""

from pathlib import Path

import pytest
from foxglove_schemas_protobuf.LocationFix_pb2 import LocationFix
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from logbook import channels
from logbook.schemas import cruisers_pb2
from logbook.schemas.generate import HERE, generate

pytestmark = pytest.mark.timeout(60)


def test_the_committed_schema_files_are_what_protoc_makes_of_the_source(tmp_path: Path) -> None:
    generate(tmp_path)
    for name in ("cruisers_pb2.py", "cruisers_pb2.pyi"):
        assert (tmp_path / name).read_text() == (HERE / name).read_text(), f"{name}: run `python -m logbook.schemas.generate`"


@pytest.mark.parametrize("stream", channels.STREAMS)
def test_every_schema_describes_itself_with_all_its_dependencies(stream: str) -> None:
    cameras = ["front"] if stream == channels.IMAGES else []
    for kind in channels.channel_types(stream, cameras):
        if kind.encoding != channels.PROTOBUF:
            assert kind == channels.ChannelType("/imu/block", "cruisers-block", "")
            continue
        pool = DescriptorPool()  # knows nothing: a dependency that is missing or comes late is an error here
        for file in FileDescriptorSet.FromString(channels.descriptor_set(kind.schema)).file:
            pool.Add(file)
        assert pool.FindMessageTypeByName(kind.schema).full_name == kind.schema


def test_a_schema_holds_its_own_message_and_what_that_needs_and_nothing_else() -> None:
    sizes = {}
    for kind in channels.channel_types(channels.READINGS):
        if kind.schema:
            data = channels.descriptor_set(kind.schema)
            sizes[kind.schema] = len(data)
            names = {message.name for file in FileDescriptorSet.FromString(data).file for message in file.message_type}
            values = {"Value"}
            needs = {
                "cruisers.Reading": values,
                "cruisers.Imu": values,
                "foxglove.LocationFix": {"Timestamp", "Color", "Vector3", "KeyValuePair"},
            }
            assert names == {kind.schema.partition(".")[2]} | needs.get(kind.schema, set())
    assert sum(sizes.values()) < 4_000, f"they stand twice in each file of a minute: {sizes}"


def test_one_pool_can_hold_all_schemas_because_equal_file_names_have_equal_content() -> None:
    files: dict[str, bytes] = {}
    pool = DescriptorPool()
    kinds = [*channels.channel_types(channels.READINGS), *channels.channel_types(channels.IMAGES, ["front"])]
    for kind in kinds:
        if kind.schema:
            for file in FileDescriptorSet.FromString(channels.descriptor_set(kind.schema)).file:
                data = file.SerializeToString(deterministic=True)
                assert files.setdefault(file.name, data) == data
                pool.Add(file)
    for kind in kinds:
        if kind.schema:
            assert pool.FindMessageTypeByName(kind.schema).full_name == kind.schema


def test_a_reader_that_knows_only_the_schema_decodes_the_message() -> None:
    fix = LocationFix(latitude=35.34, longitude=139.49)
    fix.timestamp.FromNanoseconds(1_700_000_000_123_456_789)
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(channels.descriptor_set("foxglove.LocationFix")).file:
        pool.Add(file)
    decoded = GetMessageClass(pool.FindMessageTypeByName("foxglove.LocationFix")).FromString(fix.SerializeToString())
    assert (decoded.latitude, decoded.longitude) == (35.34, 139.49)
    assert decoded.timestamp.nanos == 123_456_789
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(channels.descriptor_set("cruisers.Health")).file:
        pool.Add(file)
    health = cruisers_pb2.Health(source="head", boottime_ns=5, counters={"heap_free": 48_000.0})  # a map: a message inside the message
    decoded = GetMessageClass(pool.FindMessageTypeByName("cruisers.Health")).FromString(health.SerializeToString())
    assert dict(decoded.counters) == {"heap_free": 48_000.0}


def test_the_channels_are_those_of_the_document() -> None:
    readings = {kind.topic: kind.schema for kind in channels.channel_types(channels.READINGS)}
    assert readings == {
        "/imu/block": "",
        "/imu": "cruisers.Imu",
        "/reading/bmp390": "cruisers.Reading",
        "/reading/sht45": "cruisers.Reading",
        "/reading/opt3001": "cruisers.Reading",
        "/reading/as7331": "cruisers.Reading",
        "/reading/sps30": "cruisers.Reading",
        "/reading/veml7700": "cruisers.Reading",
        "/reading/pms5003": "cruisers.Reading",
        "/reading/neo_m9n": "cruisers.Reading",
        "/position": "cruisers.Position",
        "/position/fix": "foxglove.LocationFix",
        "/trim": "cruisers.Trim",
        "/head/frames": "cruisers.HeadFrames",
        "/clock": "cruisers.ClockMapping",
        "/gap": "cruisers.Gap",
        "/event": "cruisers.Event",
        "/health": "cruisers.Health",
        "/reading/first_fleet": "cruisers.Reading",
        "/box/frames": "cruisers.BoxFrames",
    }
    by_name = channels.channel_types(channels.IMAGES, ["front"])
    assert by_name == channels.channel_types(channels.IMAGES, [channels.camera_topic("front")])
    assert [kind.topic for kind in by_name] == ["/camera/front", "/gap", "/event"]
    for wrong in (("readings", ["front"]), ("video", [])):
        with pytest.raises(ValueError):
            channels.channel_types(*wrong)


def test_bytes_that_are_not_the_promised_message_are_refused() -> None:
    assert channels.parse("protobuf", "cruisers.Gap", cruisers_pb2.Gap(count=3).SerializeToString()) == cruisers_pb2.Gap(count=3)
    assert channels.parse("cruisers-block", "", b"x") is None
    assert channels.parse("protobuf", "other.Message", b"x") is None
    with pytest.raises(channels.WrongMessage):
        channels.parse("protobuf", "cruisers.Gap", b"\xff")
