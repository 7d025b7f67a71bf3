"""The sources of one truck, as its configuration names them: head or own buses, receiver, box, cameras and switches, each on a thread of
its own; and what stands behind them: who finds events in what they write, and which images are kept."""

import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.box import Box
from gateway.box_count import newest
from gateway.box_positions import BoxPositions
from gateway.camera import Camera
from gateway.clock import Clock, boottime_ns
from gateway.config import Truck
from gateway.convert import IMU, Converter
from gateway.disk_trouble import DiskTrouble
from gateway.events import Events
from gateway.fixes import SOURCE as GNSS
from gateway.head import HeadLink
from gateway.head_log import HeadLog
from gateway.head_positions import HeadPositions
from gateway.image_policy import ImagePolicy
from gateway.inputs import SOURCE as INPUTS
from gateway.inputs import Inputs
from gateway.journal import Entry, Journal
from gateway.own_parts import OwnParts
from gateway.positions import Positions
from gateway.receiver import Receiver
from gateway.recorder_call import Ear
from gateway.snapshot import Snapshot
from gateway.supervision import Supervisor
from gateway.travel import Travel
from gateway.watch import SOURCE as WATCH
from gateway.watch import Watch
from logbook import block
from logbook.channels import BOX_FRAMES, HEAD_FRAMES, IMU_BLOCK, POSITION, READINGS, camera_topic, channel_types, reading_topic
from logbook.reader import Message
from logbook.schemas import cruisers_pb2 as pb
from logbook.segment import Segments


def topics(config: Truck) -> list[str]:
    """Of what a source may have left behind and must go on from."""
    own = [kind.topic for kind in channel_types(READINGS) if kind.topic.startswith(reading_topic(""))] if config.bus is not None else []
    return [HEAD_FRAMES, IMU_BLOCK, BOX_FRAMES, POSITION, *own, *(camera_topic(camera.name) for camera in config.cameras)]


def counts(message: Message) -> bool:
    """Whether the source has delivered in `message`: a box that was only asked has not."""
    return not isinstance(message.message, pb.BoxFrames) or newest(message.message) is not None


def _last_sample_ns(before: Mapping[str, Message]) -> int:
    """Boot time of the IMU's last sample that recorders before this one left, 0 if none. A block that nobody can read is one line on
    stderr: what a predecessor left behind never keeps a recorder from starting."""
    if IMU_BLOCK not in before:
        return 0
    try:
        return int(block.decode(before[IMU_BLOCK].data)[1][-1])
    except block.BlockError as error:
        print(f"recorder: the newest IMU block in the spool: {error}", file=sys.stderr, flush=True)
        return before[IMU_BLOCK].log_time


class Sources:
    """Made by the recorder, which calls `start`. `resume` and `before`: what is durable of each boot of the head, and the newest message of
    each of `topics` that recorders before this one left. `images`: where there are cameras. `ignition(on)`: see Inputs."""

    def __init__(
        self,
        config: Truck,
        clock: Clock,
        journal: Journal,
        snapshot: Snapshot,
        images: Segments | None,
        resume: Mapping[int, int],
        before: Mapping[str, Message],
        disk: DiskTrouble,
        ignition: Callable[[bool], None],
    ) -> None:
        self._events = Events(journal, snapshot)
        self._calls = Ear(Path(config.spool), self._events.bookmark)
        self._watch = Watch(config, self._events, journal, snapshot)
        self._inputs = Inputs(config.inputs, self._events, journal, snapshot, ignition) if config.inputs is not None else None
        since = {topic: message.log_time for topic, message in before.items()}
        alone = config.gpsd is None and config.receiver is None and config.box is None  # a receiver on the head is the truck's only one
        of_head = HeadPositions(clock, snapshot, since.get(POSITION)) if alone else None
        self._log = HeadLog(journal, snapshot, clock, Converter(), resume, since.get(HEAD_FRAMES, 0), _last_sample_ns(before), of_head)
        self._link: HeadLink | None = None
        self._positions: Positions | Receiver | BoxPositions | None = None
        self._box: Box | None = None
        self._cameras: dict[str, Camera] = {}
        if config.head is not None:
            self._link = HeadLink(config.head.port, self._log, journal, snapshot, resume, disk)
        self._own: OwnParts | None = None
        if config.bus is not None:
            newest_of = {topic.removeprefix(reading_topic("")): at for topic, at in since.items()} | {IMU: _last_sample_ns(before)}
            self._own = OwnParts(config.bus, clock, journal, snapshot, disk, {part: at for part, at in newest_of.items() if at})
        if config.gpsd is not None:
            self._positions = Positions(config.gpsd.host, config.gpsd.port, clock, journal, snapshot, since.get(POSITION))
        elif config.receiver is not None:
            own = config.receiver
            self._positions = Receiver(own.port, own.period_ms, clock, journal, snapshot, since.get(POSITION))
        if config.box is not None:  # gives positions where nothing else does, and live values where no other part gives any
            own_positions = BoxPositions(clock, journal, snapshot, since.get(POSITION)) if self._positions is None else None
            self._positions = self._positions or own_positions
            only_one = config.head is None and config.bus is None
            left = before[BOX_FRAMES].message if BOX_FRAMES in before else None
            last = newest(left) if isinstance(left, pb.BoxFrames) else None
            self._box = Box(config.box.port, config.box.fan, clock, journal, snapshot, only_one, own_positions, last)
        self._policy: ImagePolicy | None = None
        if images is not None:
            travel = Travel()
            journal.observe(POSITION, travel.heard)
            self._policy = ImagePolicy(config.images, images, travel, journal, snapshot)
            self._events.subscribe(self._policy.event)
            for camera in config.cameras:
                newest_image = since.get(camera_topic(camera.name))
                wanted = camera.settings()
                self._cameras[camera.name] = Camera(
                    camera.name, camera.source, clock, self._policy, journal, snapshot, newest_image, wanted
                )

    def start(self, supervisor: Supervisor, stop: threading.Event) -> None:
        """Each on its own thread, until `stop` is set."""
        supervisor.start(WATCH, self._watch.run, stop)
        supervisor.start("calls", self._calls.run, stop)
        if self._inputs is not None:
            supervisor.start(INPUTS, self._inputs.run, stop)
        if self._link is not None:
            supervisor.start("head", self._link.run, stop)
        for wire in self._own.wires if self._own is not None else ():
            supervisor.start(wire.name, wire.run, stop)
        if self._positions is not None and not isinstance(self._positions, BoxPositions):
            supervisor.start(GNSS, self._positions.run, stop)
        if self._box is not None:
            supervisor.start("box", self._box.run, stop)
        for name, camera in self._cameras.items():
            supervisor.start(f"camera/{name}", camera.run, stop)

    def settle(self) -> None:
        """About once a second: lets go of images that have waited long enough for an event."""
        if self._policy is not None:
            self._policy.settle(boottime_ns())

    def finish(self) -> None:
        """The sources have ended: what they left waiting in memory is looked at and written."""
        self._watch.finish()
        if self._policy is not None:
            self._policy.finish()

    def durable(self, token: object) -> None:
        """What `token` stood for is on disk; called by the writer's thread."""
        if self._link is not None:
            self._link.durable(token)

    def trims(self) -> tuple[Entry, ...]:
        """The trims in force: what a segment needs to be read alone. Any thread may ask."""
        own = self._own.trims() if self._own is not None else ()
        return self._log.trims() + own + (self._box.trims() if self._box is not None else ())

    def counters(self) -> dict[str, float]:
        """For the message of health."""
        counters: dict[str, float] = {"images.torn": sum(camera.torn for camera in self._cameras.values())}
        counters["events.passed_over"] = self._watch.passed_over
        if self._link is not None:
            link = self._link
            counters |= {"head.repeats": link.repeats, "head.bad": link.bad, "head.ignored": link.ignored}
            counters["head.malformed"] = self._log.malformed
        if self._positions is not None:
            counters["gnss.malformed"] = self._positions.malformed
        if self._box is not None:
            counters["box.broken"] = self._box.broken
        return counters
