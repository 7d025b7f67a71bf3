"""Which images are kept (config.Images): all of them, one per metres or seconds, or everything around an event.

- `all`: every whole image goes to the writer.
- `distance`: an image is due when the truck has come `metres` further than at the last one that was due, or after `seconds`, and while
  it stands after `standing_seconds`. Where no position says how far it came (no receiver, no fix for 2 s: gateway/travel.py), `seconds`
  alone hold; after a minute of that the event `images_by_time` says so, once.
- `event`: what is due as before, and everything from `around_seconds` before an event to `around_seconds` after it.

The ring of `event`. Nobody knows before an event that it comes, so each image waits in memory for `around_seconds`, and LATE_SECONDS more,
for an event may be told late. Then it goes to the writer if it was due, else it is passed over. The images that were due wait
with the others, so that each camera's images are written in the order of their times: the gaps that the writer and recovery tell
are from time to time, and would be wrong otherwise. An event empties the ring up to its own end at once, for a truck that had an
accident may lose its power; what comes until `around_seconds` after it does not wait. Each image leaves the ring once, so
events that overlap write nothing twice. An event that is told after a later one may find its first moments passed over already.

Memory. `ring_bytes` bounds the ring of all cameras together; where it is full, the oldest image of all leaves early. If that makes the ring
shorter than `around_seconds`, the event `images_ring_short` says how many seconds it holds, once. What is in the ring is not on disk: at a
kill or a power cut it is lost, due or not (up to 12 s of images, where the other policies lose 1 s); the recorder's next start tells
a Gap from the last image on disk. At the end of a shift `finish` writes what was due.

The account: images_received = images + images_passed_over + images_torn + images_dropped + what waits in the ring. Those passed over are no
gap. Those dropped were kept, but the disk stalled and memory was full: the writer counts them and writes the Gap."""

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from gateway.config import Images
from gateway.journal import Entry, Sink, event
from gateway.travel import Moved, Travel

NANO = 1_000_000_000
LATE_SECONDS = 2.0  # an event is told so long after it happened: a second of the IMU, its filter, and a busy machine
WITHOUT_POSITION_NS = 60 * NANO  # a start in a garage, or a tunnel, is nothing to tell of
SOURCE = "images"


class Writer(Protocol):
    """What kept images go to: logbook.segment.Segments."""

    def write(self, topic: str, log_time: int, publish_time: int, data: bytes, /) -> bool:
        """Takes one message; False if memory is full: it has counted it."""


class Tally(Protocol):
    """What is told of each image: gateway.snapshot.Snapshot."""

    def count(self, name: str, number: int = 1) -> None:
        """More of the counter `name`."""

    def image(self, camera: str, at_ns: int, size: int) -> None:
        """An image of boot time `at_ns` is with the writer: `size` bytes of message."""


class _Image(NamedTuple):
    """One that waits: as it goes to the writer, and whether it was due."""

    log_time: int
    publish_time: int
    data: bytes
    due: bool


class _Camera:
    """What is known of one camera: when an image of it was last due, where that was (or where a position came back behind it), and those
    that wait, oldest first."""

    def __init__(self) -> None:
        self.last_ns: int | None = None
        self.last_moved: Moved | None = None
        self.waiting: deque[_Image] = deque()


class ImagePolicy:
    """Stands between the cameras and the writer, and has the writer's face. Thread-safe; nothing waits for the disk.

    Cameras call `write`; events call `event`; the recorder calls `settle` about once a second and `finish` when the cameras have ended."""

    def __init__(self, settings: Images, writer: Writer, travel: Travel, journal: Sink, tally: Tally) -> None:
        self._settings = settings
        self._writer = writer
        self._travel = travel
        self._journal = journal
        self._tally = tally
        self._around_ns = int(settings.around_seconds * NANO)
        self._hold_ns = self._around_ns + int(LATE_SECONDS * NANO)
        self._decide: Callable[[str, _Image], list[Entry]] = {
            "all": self._keep_all, "distance": self._keep_due, "event": self._keep_around,
        }[settings.policy]  # fmt: skip
        self._lock = threading.Lock()  # of all below, and of the order in which images go to the writer
        self._cameras: dict[str, _Camera] = {}
        self._ring_bytes = 0
        self._until_ns = -1  # everything is kept up to here
        self._short_told = False
        self._unknown_since: int | None = None
        self._unknown_told = False

    def write(self, topic: str, log_time: int, publish_time: int, data: bytes) -> None:
        """Takes one image of the camera `topic`, of boot time `log_time`; the images of one camera come in the order of their times."""
        with self._lock:
            notes = self._decide(topic, _Image(log_time, publish_time, data, False))
        if notes:  # not under the lock: who observes the journal may tell an event
            self._journal.write(notes)

    def event(self, kind: str, at_ns: int) -> None:
        """Something of `kind` happened at boot time `at_ns` (gateway.events.Events.subscribe): what is around it is kept. Told twice it
        does no more than once."""
        if self._settings.policy != "event":
            return
        begin, end = at_ns - self._around_ns, at_ns + self._around_ns
        with self._lock:
            self._until_ns = max(self._until_ns, end)
            for topic, camera in self._cameras.items():
                while camera.waiting and camera.waiting[0].log_time <= end:
                    self._leave(topic, camera, begin)

    def settle(self, now_ns: int) -> None:
        """Lets go of images that have waited long enough: those of a camera that gives no more, too."""
        with self._lock:
            for topic, camera in self._cameras.items():
                self._age(topic, camera, now_ns)

    def finish(self) -> None:
        """No more images come: those that were due are written, the others passed over."""
        with self._lock:
            for topic, camera in self._cameras.items():
                while camera.waiting:
                    self._leave(topic, camera)

    # --- the policies; the lock is held. Each returns what is to be told.

    def _keep_all(self, topic: str, image: _Image) -> list[Entry]:
        self._put(topic, image)
        return []

    def _keep_due(self, topic: str, image: _Image) -> list[Entry]:
        due, notes = self._due(topic, image.log_time)
        if due:
            self._put(topic, image)
        else:
            self._tally.count("images_passed_over")
        return notes

    def _keep_around(self, topic: str, image: _Image) -> list[Entry]:
        due, notes = self._due(topic, image.log_time)
        camera = self._cameras[topic]
        camera.waiting.append(image._replace(due=due or image.log_time <= self._until_ns))
        self._ring_bytes += len(image.data)
        while camera.waiting and camera.waiting[0].log_time <= self._until_ns:
            self._leave(topic, camera)
        self._age(topic, camera, image.log_time)
        return notes + self._bound(image.log_time)

    # --- their parts; the lock is held

    def _due(self, topic: str, at: int) -> tuple[bool, list[Entry]]:
        """Whether the image of `topic` taken at boot time `at` is due by way and time, and what is to be told."""
        camera = self._cameras.setdefault(topic, _Camera())
        moved = self._travel.at(at)
        notes = self._unknown(moved, at)
        if camera.last_ns is not None and not self._far_enough(camera.last_ns, camera.last_moved, at, moved):
            camera.last_moved = camera.last_moved or moved
            return False, notes
        camera.last_ns, camera.last_moved = at, moved
        return True, notes

    def _far_enough(self, last_ns: int, last: Moved | None, at: int, moved: Moved | None) -> bool:
        settings = self._settings
        standing = moved is not None and moved.standing
        if at - last_ns >= (settings.standing_seconds if standing else settings.seconds) * NANO:
            return True
        return last is not None and moved is not None and moved.metres - last.metres >= settings.metres

    def _unknown(self, moved: Moved | None, at: int) -> list[Entry]:
        if moved is not None:
            self._unknown_since = None
            return []
        self._unknown_since = at if self._unknown_since is None else self._unknown_since
        if self._unknown_told or at - self._unknown_since < WITHOUT_POSITION_NS:
            return []
        self._unknown_told = True
        detail = f"no position for {WITHOUT_POSITION_NS // NANO} s: an image is due every {self._settings.seconds:g} s, standing or not"
        return [event("images_by_time", SOURCE, detail, at)]

    def _age(self, topic: str, camera: _Camera, now_ns: int) -> None:
        while camera.waiting and camera.waiting[0].log_time < now_ns - self._hold_ns:
            self._leave(topic, camera)

    def _bound(self, now_ns: int) -> list[Entry]:
        """Keeps the ring within its bytes. The image of `now_ns` is in it, so there is one to take away."""
        notes: list[Entry] = []
        while self._ring_bytes > self._settings.ring_bytes:
            topic, camera = min(
                ((topic, camera) for topic, camera in self._cameras.items() if camera.waiting), key=lambda pair: pair[1].waiting[0].log_time
            )
            held_ns = now_ns - camera.waiting[0].log_time
            self._leave(topic, camera)
            if held_ns < self._around_ns and not self._short_told:
                self._short_told = True
                detail = f"ring_bytes {self._settings.ring_bytes} holds {held_ns / NANO:.1f} s of images before an event"
                detail += f", not {self._settings.around_seconds:g} s"
                notes.append(event("images_ring_short", SOURCE, detail, now_ns))
        return notes

    def _leave(self, topic: str, camera: _Camera, kept_from_ns: int | None = None) -> None:
        """The oldest image of `camera` leaves the ring: kept if it was due, or is of `kept_from_ns` or later."""
        image = camera.waiting.popleft()
        self._ring_bytes -= len(image.data)
        if image.due or (kept_from_ns is not None and image.log_time >= kept_from_ns):
            self._put(topic, image)
        else:
            self._tally.count("images_passed_over")

    def _put(self, topic: str, image: _Image) -> None:
        if self._writer.write(topic, image.log_time, image.publish_time, image.data):
            self._tally.image(topic.rpartition("/")[2], image.log_time, len(image.data))
        else:
            self._tally.count("images_dropped")
