"""What the live channels of a truck say, taken into its state: values, packed blocks, events, health."""

import logging
from collections.abc import Callable
from xml.etree.ElementTree import Element

from center import clock
from center.fleet_state import Fleet, TruckState
from sox.documents import DocumentError, parse_data
from sox.events import BadEvent, read_event
from sox.health import BadHealth, read_health
from sox.packed import BadPacked, read_columns, read_packed

Take = Callable[[str, Element], None]  # item id, payload

log = logging.getLogger("center.live")


class LiveItems:
    """Takes items for the trucks of `fleet`. `unreadable` counts those that were not what their node is for."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.unreadable = 0
        self.on_their_way: set[str] = set()  # trucks whose retained items are read: what comes now did not wait on the hub

    def values(self, truck: str) -> Take:
        """Of `<truck>_data`."""
        return self._taker(truck, self._values)

    def packed(self, truck: str) -> Take:
        """Of `<truck>_packed_data`."""
        return self._taker(truck, self._packed)

    def columns(self, truck: str) -> Take:
        """Of `<truck>_packed_meta`."""
        return self._taker(truck, lambda state, item_id, element: state.packed.describe(read_columns(element)))

    def events(self, truck: str) -> Take:
        """Of `<truck>_events_data`."""
        return self._taker(truck, self._event)

    def health(self, truck: str) -> Take:
        """Of `<truck>_health_data`."""
        return self._taker(truck, self._health)

    def _taker(self, truck: str, take: Callable[[TruckState, str, Element], None]) -> Take:
        state = self._fleet.trucks[truck]

        def taker(item_id: str, element: Element) -> None:
            try:
                take(state, item_id, element)
            except (DocumentError, BadPacked, BadEvent, BadHealth) as error:
                self.unreadable += 1
                log.warning("%s: unreadable item: %s", truck, error)

        return taker

    def _values(self, state: TruckState, item_id: str, element: Element) -> None:
        state.take(parse_data(element), clock.utc_ns(), state.name in self.on_their_way)

    def _packed(self, state: TruckState, item_id: str, element: Element) -> None:
        state.packed.take(read_packed(element))

    def _event(self, state: TruckState, item_id: str, element: Element) -> None:
        event = read_event(item_id, element)
        if state.events.take(event):
            log.info("%s: %s (%s) %s", state.name, event.kind, event.source, event.detail)

    def _health(self, state: TruckState, item_id: str, element: Element) -> None:
        state.health = read_health(element)
