"""Whether the truck is at one of its depots: the distance of a valid position to each, one border to come in, a wider one to leave."""

import math

from gateway.config import Depot
from gateway.events import Events
from gateway.fixes import SOURCE
from gateway.snapshot import Snapshot
from logbook.schemas import cruisers_pb2 as pb

DEPOT_IN, DEPOT_OUT = "depot_in", "depot_out"
EARTH = 6_371_008.8  # m, mean radius (IUGG, R1)
LEAVING = 1.2  # of the radius: a position that trembles about the border makes no events


def distance(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Great circle distance in metres of two places in degrees north and east: the haversine formula, exact for small distances, too
    (R. W. Sinnott, Virtues of the Haversine, Sky and Telescope 68, 1984). The Earth as a sphere: wrong by 0.5 % at most."""
    latitude_a, longitude_a, latitude_b, longitude_b = map(math.radians, (*a, *b))
    north, east = math.sin((latitude_b - latitude_a) / 2), math.sin((longitude_b - longitude_a) / 2)
    square = north * north + math.cos(latitude_a) * math.cos(latitude_b) * east * east
    return 2 * EARTH * math.asin(min(1.0, math.sqrt(square)))


class Depots:
    """Tells `events` of arrivals (also of a truck that is there when the recorder starts) and departures; one thread. The snapshot's
    place is the depot that was entered last and not left."""

    def __init__(self, depots: list[Depot], events: Events, snapshot: Snapshot) -> None:
        self._depots = depots
        self._events = events
        self._snapshot = snapshot
        self._inside: list[str] = []  # in the order of entering

    def take(self, position: pb.Position) -> None:
        """A position. One that is not valid says nothing; one that may be wrong by more than a depot's radius says nothing of it."""
        if not position.valid:
            return
        for depot in self._depots:
            if position.HasField("horizontal_error") and not position.horizontal_error <= depot.radius:
                continue
            away = distance((depot.latitude, depot.longitude), (position.latitude, position.longitude))
            if depot.name not in self._inside and away <= depot.radius:
                self._inside.append(depot.name)
                self._events.tell(DEPOT_IN, SOURCE, depot.name, position.boottime_ns)
            elif depot.name in self._inside and away > depot.radius * LEAVING:
                self._inside.remove(depot.name)
                self._events.tell(DEPOT_OUT, SOURCE, depot.name, position.boottime_ns)
        self._snapshot.place(self._inside[-1] if self._inside else None)
