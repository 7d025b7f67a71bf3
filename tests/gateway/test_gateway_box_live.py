"""A truck with a first fleet's box and nothing else, on its way to the map: box, recorder, live snapshot, SoX item, what the city shows."""

import math
from pathlib import Path

import pytest
from gateway_recording import Running, truck, wait_for

from center.archive import Counts
from center.display import truck_fields
from center.fleet_state import TruckState
from gateway.config import Box as BoxSettings
from gateway.live import KIND, LiveReceiver
from gateway.uplink_live import data_item, snapshot
from logbook.quantities import BY_ID, TEN
from sim.box import BoxOnPty
from sim.chips.first_fleet import FirstFleetBox
from sim.clock import Clock
from sox.documents import parse_data

pytestmark = pytest.mark.timeout(60)

NOW = 1_793_000_000_000_000_000
WORLD = {
    **{f"acceleration_{axis}": 9.80665 for axis in "xyz"},
    **{f"angular_rate_{axis}": math.radians(-90) for axis in "xyz"},
    **{f"magnetic_field_{axis}": 30e-6 for axis in "xyz"},
    "pressure": 101_325.0, "humidity": 60.0, "temperature": 293.15, "uva": 12.7, "illuminance": 20_000.0, "pm2_5": 40e-9,
    "latitude": 35.35, "longitude": 139.48, "altitude": 21.0, "speed": 10.0, "bearing": math.radians(90),
}  # fmt: skip
SHOWN = {
    "acceleration_z": 9.807, "angular_rate_x": -90.0, "magnetic_field_y": 30.0, "pressure": 1013.25, "humidity": 60.0, "temperature": 20.0,
    "uva": 12.7, "illuminance": 20_000, "pm2_5": 40.0, "latitude": 35.35, "longitude": 139.48, "speed": 36.0, "bearing": 90.0,
}  # fmt: skip


def test_a_truck_with_a_box_alone_is_on_the_map_with_all_ten_quantities(tmp_path: Path) -> None:
    chip = FirstFleetBox(lambda t_us: WORLD, lambda *_: None)
    pty = BoxOnPty(chip, Clock(), tmp_path / "box")
    config = truck(tmp_path)
    config.box = BoxSettings(str(tmp_path / "box"))
    city = TruckState("truck-1")
    listener = LiveReceiver(config.live_socket)
    try:
        with Running(config):

            def complete() -> bool:
                datagram = listener.receive(1.0)
                if datagram is None or KIND in datagram:
                    return False
                datagram["utc_ns"] = NOW  # a box gives no date: the truck has it from its network
                item = data_item(snapshot(datagram, "truck-1"))
                if item is not None:
                    city.take(parse_data(item), NOW)
                return all(quantity in city.values for quantity in TEN)

            wait_for(complete, "all ten quantities")
    finally:
        listener.close()
        pty.close()
    fields = truck_fields(city, Counts(0, 0, 0, 0, 0), NOW)
    assert fields["truck-1/state"] == "fresh" and fields["truck-1/position"] == "35.350000, 139.480000"
    for quantity in TEN:
        live = city.values[quantity]
        assert live.value is not None and live.raw, (quantity, live)
        epsilon = FirstFleetBox.EPSILON.get(quantity, 1e-3)
        assert abs(live.value - WORLD[quantity]) <= epsilon * 1.01 + BY_ID[quantity].resolution, (quantity, live)
    shown = {quantity: float(fields[f"truck-1/q/{quantity}/value"]) for quantity in SHOWN}
    assert shown == pytest.approx(SHOWN, rel=0.02)
