"""The newest events of one truck, each once however often it comes."""

from sox.events import Event

KEPT = 500


class EventsLive:
    """By item id, in the order of first arrival; an event that comes again, with a time it had not, takes its own place."""

    def __init__(self) -> None:
        self._events: dict[str, Event] = {}

    def take(self, event: Event) -> bool:
        """One event; False if it was known."""
        known = event.item_id in self._events
        self._events[event.item_id] = event
        while len(self._events) > KEPT:
            del self._events[next(iter(self._events))]
        return not known

    def newest(self, limit: int = KEPT) -> list[Event]:
        """At most `limit`, newest first."""
        return list(self._events.values())[: -limit - 1 : -1]
