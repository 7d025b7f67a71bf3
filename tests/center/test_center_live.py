"""The live picture beside the values: packed blocks, events, latencies; and that a fleet of them is cheap."""

import time
from xml.etree import ElementTree as ET

import numpy as np

from center.fleet_state import Fleet
from center.live_events import KEPT as EVENTS_KEPT
from center.live_events import EventsLive
from center.live_items import LiveItems
from center.live_latency import BOUNDS_S, STEPS_PER_OCTAVE, Latency
from center.live_packed import KEPT, PackedLive
from logbook import block
from logbook.quantities import TABLE
from sox.documents import data_document
from sox.events import Event, event_document
from sox.packed import Packed, columns_id, packed_device, packed_document

NOW = 1_793_000_000_000_000_000
S = 1_000_000_000
COLUMNS = block.describe([{"id": "acceleration_x", "scale": 0.5}])


def second(number: int, boot: str = "0123abcd-89ab4567", columns: str = COLUMNS) -> Packed:
    raw = np.full((102, 1), number, np.int16)
    data = block.live([block.encode(7, number * S + np.arange(102) * 9_778_000, raw)])
    return Packed(boot, number, NOW + number * S, "gnss", 0.3, columns_id(columns), data)


def event(number: int, utc_ns: int = NOW) -> Event:
    return Event("truck-1", "0123abcd-89ab4567", number, "shock", "icm20948", "", number * S, utc_ns)


def test_seconds_are_kept_as_they_came_and_decoded_when_asked_for() -> None:
    live = PackedLive()
    live.describe(COLUMNS)
    for number in range(1, KEPT + 4):
        assert live.take(second(number))
    found = live.seconds()
    assert [one.values["acceleration_x"][0][0] for one in found] == [number * 0.5 for number in range(4, KEPT + 4)]
    assert (live.items, live.missing, live.unreadable) == (KEPT + 3, 0, 0)


def test_a_second_that_comes_twice_or_late_is_passed_over_and_one_that_does_not_come_is_missing() -> None:
    live = PackedLive()
    assert [live.take(second(number)) for number in (1, 1, 4, 3, 5)] == [True, False, True, False, True]
    assert (live.items, live.missing) == (3, 2)
    assert live.take(second(1, boot="0123abcd-ffffffff"))  # another recorder counts anew, and nothing is missing
    assert live.missing == 2


def test_a_block_is_typed_by_its_own_columns_when_the_range_changes() -> None:
    live, other = PackedLive(), block.describe([{"id": "acceleration_x", "scale": 0.25}])
    live.describe(COLUMNS)
    live.take(second(2))
    live.describe(other)
    live.take(second(4, columns=other))
    live.take(second(5, columns="[never told]"))
    assert [one.values["acceleration_x"][0][0] for one in live.seconds()] == [1.0, 1.0]
    assert live.unreadable == 1


def test_an_event_is_there_once_and_keeps_its_place_when_its_time_is_told() -> None:
    live = EventsLive()
    assert [live.take(one) for one in (event(1, 0), event(2), event(1))] == [True, True, False]
    assert [(one.number, one.utc_ns) for one in live.newest()] == [(2, NOW), (1, NOW)]
    for number in range(3, EVENTS_KEPT + 10):
        live.take(event(number))
    assert len(live.newest()) == EVENTS_KEPT and [one.number for one in live.newest(2)] == [EVENTS_KEPT + 9, EVENTS_KEPT + 8]


def test_quantiles_are_never_told_too_low_and_at_most_one_step_too_high() -> None:
    rng, latency = np.random.default_rng(3), Latency()
    values = np.sort(rng.lognormal(-3, 1, 10_000))
    for value in values:
        latency.add(float(value))
    for part in (0.5, 0.9, 0.99):
        true, told = float(np.quantile(values, part)), latency.quantile(part)
        assert told is not None and true * 0.999 <= told <= true * 2 ** (1 / STEPS_PER_OCTAVE) * 1.001
    assert latency.most_s == values[-1] and latency.count == 10_000


def test_an_empty_histogram_has_no_quantile_and_odd_latencies_are_counted() -> None:
    latency = Latency()
    assert latency.quantile(0.99) is None
    latency.add(-0.5)
    latency.add(1e9)
    assert (latency.ahead, latency.count, latency.quantile(0.5), latency.quantile(1.0)) == (1, 2, BOUNDS_S[0], float("inf"))
    assert Latency.total([latency, latency]).count == 4


def test_what_waited_on_the_hub_is_no_latency(live) -> None:
    fleet = Fleet(["truck-1"])
    items = LiveItems(fleet)
    take = items.values("truck-1")
    take("1", data_document(live(NOW - 3600 * S, {"pressure": 101_000.0})))
    assert fleet.latency().count == 0
    items.on_their_way.add("truck-1")
    take("2", data_document(live(time.time_ns() - S, {"pressure": 101_001.0})))
    take("2", data_document(live(time.time_ns() - S, {})))  # nothing new in it
    assert fleet.latency().count == 1
    assert 1.0 <= (fleet.latency().quantile(0.99) or 0.0) < 60.0


def test_an_item_that_is_none_is_counted_and_the_next_one_taken() -> None:
    fleet = Fleet(["truck-1"])
    items = LiveItems(fleet)
    nonsense = ET.fromstring("<data><transducerValue id='x' typedValue='1' timestamp='soon'/></data>")
    for take in (items.packed("truck-1"), items.columns("truck-1"), items.events("truck-1"), items.health("truck-1")):
        take("1", nonsense)
    assert items.unreadable == 4
    items.columns("truck-1")("1", packed_device("truck-1_packed", COLUMNS))
    items.packed("truck-1")("2", packed_document(second(2)))
    items.events("truck-1")(event(1).item_id, event_document(event(1)))
    state = fleet.trucks["truck-1"]
    assert len(state.packed.seconds()) == 1 and state.events.newest() == [event(1)]


def test_taking_a_second_of_a_hundred_trucks_costs_a_few_times_what_parsing_its_xml_does(live) -> None:
    """4 to 5 times: 5 to 9 % of a core in all, where half a core is the bar (slixmpp parses the XML, with 4 % for itself)."""
    values = {row.id: (row.low + row.high) / 2 for row in list(TABLE)[:40]}
    texts = {
        f"truck-{index}": (ET.tostring(data_document(live(NOW + index, values))), ET.tostring(packed_document(second(index))))
        for index in range(100)
    }
    documents = {name: [ET.fromstring(text) for text in both] for name, both in texts.items()}

    def parse() -> None:
        for both in texts.values():
            for text in both:
                ET.fromstring(text)

    def take_s() -> float:
        items = LiveItems(fleet := Fleet(texts))

        def take() -> None:
            for name, (snapshot, packed) in documents.items():
                items.values(name)("1", snapshot)
                items.packed(name)("1", packed)

        taken = cpu_s(take)
        assert all(state.packed.items == 1 and len(state.values) == len(values) for state in fleet.trucks.values())
        return taken

    assert min(take_s() for _ in range(5)) < 12 * min(cpu_s(parse) for _ in range(5))


def cpu_s(work) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began
