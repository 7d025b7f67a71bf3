"""Arriving at a depot and leaving it, by positions that tremble, lie and fail."""

import math
import random
from pathlib import Path

import pytest
from gateway_recording import Bench, Recording

from gateway.config import Depot
from gateway.depots import Depots, distance
from gateway.events import Events
from logbook.schemas import cruisers_pb2 as pb

pytestmark = pytest.mark.timeout(60)

SOUTH = Depot("south", 35.3192, 139.4670, 150.0)
METRE = 1 / 111_194.93  # degrees of latitude: 2 pi 6371008.8 m / 360


def test_distances_are_those_of_the_sphere() -> None:
    quarter = math.pi / 2 * 6_371_008.8
    assert distance((0, 0), (0, 90)) == pytest.approx(quarter)
    assert distance((0, 0), (90, 17)) == pytest.approx(quarter)
    assert distance((35.0, 180.0), (35.0, -180.0)) == pytest.approx(0.0, abs=1e-6)
    assert distance((0, 0), (0, 180)) == pytest.approx(2 * quarter)
    assert distance((35.0, 139.0), (35.0 + METRE, 139.0)) == pytest.approx(1.0, rel=1e-4)  # as exact for a metre


def test_tokyo_and_osaka_are_as_far_apart_as_the_ellipsoid_says_within_half_a_percent() -> None:
    """Stations: 35.6812 N 139.7671 E, 34.7025 N 135.4959 E; 403 km on WGS 84."""
    assert distance((35.6812, 139.7671), (34.7025, 135.4959)) == pytest.approx(403_000, rel=0.005)


class Truck:
    """A truck that reports positions, one a second, by metres north of the depot."""

    def __init__(self, folder: Path, depots: list[Depot]) -> None:
        self.bench = Bench(folder)
        self.depots = Depots(depots, Events(self.bench.journal, self.bench.snapshot), self.bench.snapshot)
        self.seconds = 0

    def at(self, metres: float, error: float | None = None, valid: bool = True) -> None:
        self.seconds += 1
        position = pb.Position(boottime_ns=self.seconds, valid=valid, latitude=SOUTH.latitude + metres * METRE, longitude=SOUTH.longitude)
        if error is not None:
            position.horizontal_error = error
        self.depots.take(position)

    def place(self) -> str | None:
        place: str | None = self.bench.snapshot.build()["place"]
        return place

    def end(self) -> Recording:
        return self.bench.close()


def told(recording: Recording) -> list[tuple[str, str, int]]:
    return [(event.kind, event.detail, event.boottime_ns) for event in recording.decoded("/event")]


@pytest.fixture
def truck(tmp_path: Path) -> Truck:
    return Truck(tmp_path, [SOUTH])


def test_a_truck_comes_home_and_leaves_again(truck: Truck) -> None:
    places = []
    for metres in (1000, 151, 149, 0, 170, 179, 181, 160, 1000):
        truck.at(metres)
        places.append(truck.place())
    assert told(truck.end()) == [("depot_in", "south", 3), ("depot_out", "south", 7)]
    assert places == [None, None, "south", "south", "south", "south", None, None, None]


def test_positions_that_tremble_about_the_border_are_one_arrival(truck: Truck) -> None:
    source = random.Random(7)
    for _ in range(2000):
        truck.at(150 + source.uniform(-25, 25))
    assert [kind for kind, _, _ in told(truck.end())] == ["depot_in"]


def test_a_position_that_may_be_wrong_by_more_than_the_radius_says_nothing(truck: Truck) -> None:
    truck.at(0, error=151.0)
    assert truck.place() is None
    truck.at(0, error=150.0)
    truck.at(5000, error=math.inf)
    truck.at(5000, error=math.nan)
    truck.at(5000, valid=False)
    assert truck.place() == "south"
    truck.at(5000)  # a receiver that gives no error is believed: a box of the first fleet
    assert told(truck.end()) == [("depot_in", "south", 2), ("depot_out", "south", 6)]


def test_a_small_depot_needs_a_better_position_than_a_large_one_around_it(tmp_path: Path) -> None:
    gate = Depot("gate", SOUTH.latitude, SOUTH.longitude, 20.0)
    truck = Truck(tmp_path, [SOUTH, gate])
    for metres, error in ((0, 30.0), (0, 5.0), (100, 5.0), (1000, 5.0)):
        truck.at(metres, error)
        if truck.seconds in (2, 3):
            assert truck.place() == {2: "gate", 3: "south"}[truck.seconds]
    kinds = [(kind, name) for kind, name, _ in told(truck.end())]
    assert kinds == [("depot_in", "south"), ("depot_in", "gate"), ("depot_out", "gate"), ("depot_out", "south")]


def test_a_truck_that_is_there_when_the_recorder_starts_is_told(truck: Truck) -> None:
    truck.at(10, error=3.0)
    (event,) = truck.end().events("depot_in")
    assert (event.source, event.detail) == ("gnss", "south")
