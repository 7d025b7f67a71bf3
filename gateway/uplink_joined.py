"""The parts of the uplink beside bulk, announcements, receipts and live values: what each duty gives, one entry each (uplink_part.py)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gateway.config import Truck
from gateway.metrics import Metrics
from gateway.uplink_books import Books
from gateway.uplink_carsensor import CarSensor
from gateway.uplink_channel import Channel
from gateway.uplink_events import News
from gateway.uplink_health import HealthNews
from gateway.uplink_link import Link
from gateway.uplink_packed import PackedBlocks
from gateway.uplink_part import Part
from gateway.uplink_requests import Requests
from gateway.uplink_requests_look import Looking
from gateway.uplink_sender import Numbers
from gateway.uplink_status import View
from gateway.uplink_ways import Ways


class Common(NamedTuple):
    """What parts are made of. `latest()`: the newest status, None before the first; `wake_bulk()`: the order of upload is another now."""

    truck: Truck
    books: Books
    link: Link
    numbers: Numbers
    ways: Ways
    utc_ns: Callable[[], int]
    latest: Callable[[], dict[str, Any] | None]
    wake_bulk: Callable[[], None]
    back_off_first: float

    def channel(self, name: str) -> Channel:
        """The truck's channel `name` (sox/nodes.py)."""
        return Channel(self.truck.name, name, self.link, self.numbers)


def parts(common: Common) -> Iterator[Part]:
    """All of them, for one truck."""
    truck, books, first = common.truck, common.books, common.back_off_first
    view = View(Path(truck.spool), books)
    yield Part({"view": view.run}, on_datagram=view.on_datagram, status=view.status)
    packed = PackedBlocks(truck.name, common.channel("packed"), common.ways.allows, first)
    yield Part({"packed": packed.run}, on_datagram=packed.on_datagram, status=packed.status, problem=lambda: packed.problem)
    news = News(truck.name, books, common.channel("events"), first)
    works = {"events": news.run, "outbox": news.enter}
    yield Part(works, on_datagram=news.on_datagram, status=news.status, problem=lambda: news.problem)
    health = HealthNews(common.channel("health"), common.latest, first)
    yield Part({"health": health.run}, status=health.status, problem=lambda: health.problem)
    requests, looking = Requests(truck, books, common.link, first), Looking(Path(truck.spool), books)
    requests.utc_ns, requests.on_requested = common.utc_ns, common.wake_bulk
    works = {"requests": requests.run, "requests node": requests.follow, "look into segments": looking.run}
    yield Part(works, on_item=requests.item, on_found=looking.found.set, status=requests.status, problem=lambda: requests.problem)
    if truck.uplink.carsensor is not None:
        old = CarSensor(truck.name, truck.uplink.carsensor, truck.uplink.carsensor_hz, common.numbers, common.link, common.ways, first)
        yield Part({"carsensor": old.run}, on_datagram=old.on_datagram, status=old.status, problem=lambda: old.problem)
    if truck.uplink.metrics_port:
        yield Part({"metrics": Metrics(truck.uplink.metrics_port, Path(truck.spool), common.latest).run})
