"""A quantity can come from another sensor than its row of the table names: a spare, or a box of the first fleet."""

from pathlib import Path

import pytest

from center.samples import of_file
from logbook import channels
from logbook.schemas.cruisers_pb2 import Reading, Value
from logbook.segment_writer import Entry, Identity, SegmentWriter

pytestmark = pytest.mark.timeout(60)


def file_of(folder: Path, *readings: tuple[str, str, float]) -> Path:
    """A segment with one Reading after the other: (sensor, quantity, value)."""
    identity = Identity("t-89abcdef-01234567-000001-readings", "t", "readings", "89abcdef-")
    writer = SegmentWriter.create(folder / "000001-readings.mcap", identity, channels.channel_types(channels.READINGS), {})
    entries = []
    for at, (sensor, quantity, number) in enumerate(readings, 1):
        message = Reading(sensor=sensor, boottime_ns=at, values=[Value(quantity=quantity, number=number)])
        entries.append(Entry(channels.reading_topic(sensor), at, 0, message.SerializeToString()))
    writer.append(entries)
    return writer.seal()


@pytest.mark.parametrize("quantity", ["acceleration_x", "pressure", "pm2_5"])
def test_a_truck_with_a_first_fleet_box_alone_has_its_samples(tmp_path: Path, quantity: str) -> None:
    times, values = of_file(file_of(tmp_path, ("first_fleet", quantity, 1.5), ("first_fleet", quantity, 2.5)), quantity)
    assert times.tolist() == [1, 2] and values.tolist() == [1.5, 2.5]


def test_beside_the_sensor_of_the_table_another_ones_samples_are_not_mixed_in(tmp_path: Path) -> None:
    path = file_of(tmp_path, ("first_fleet", "pressure", 3.0), ("bmp390", "pressure", 1.0), ("first_fleet", "pressure", 4.0))
    assert of_file(path, "pressure")[1].tolist() == [1.0]


def test_of_two_others_the_first_one_counts_alone(tmp_path: Path) -> None:
    path = file_of(tmp_path, ("pms5003", "pm2_5", 3.0), ("first_fleet", "pm2_5", 1.0), ("pms5003", "pm2_5", 4.0))
    assert of_file(path, "pm2_5")[1].tolist() == [3.0, 4.0]


def test_a_receiver_on_the_head_gives_the_positions_where_nothing_else_does(tmp_path: Path) -> None:
    assert of_file(file_of(tmp_path, ("neo_m9n", "latitude", 35.5)), "latitude")[1].tolist() == [35.5]
