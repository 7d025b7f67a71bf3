"""The truck's configuration: one TOML file, read by every process of the gateway, checked on reading.

Example: docs/truck.example.toml (a test reads it)."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from gateway.parts import PartError, on_own_wires
from sox.account import Hub, Port
from sox.nodes import BadName, check_truck

SerialPort = Annotated[str, msgspec.Meta(min_length=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
KeyCode = Annotated[int, msgspec.Meta(ge=1, le=767)]  # linux/input-event-codes.h: KEY_MAX
Count = Annotated[int, msgspec.Meta(ge=1)]
CameraName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_-]{1,32}\Z")]  # stands in topics, and in the names of exported files
MOST_CAMERAS = 4  # a Raspberry Pi has four USB ports
LEAST_RING_BYTES = 1_000_000  # a few images
MOST_RING_BYTES = 40_000_000  # at an event all of it goes into the writer's memory at once, 48 MB (logbook/segment.py)
HIGHEST_HZ = 50.0  # of a band: below half of the IMU's 102.27 Hz


class ConfigError(ValueError):
    """What is wrong with a configuration and where, in one line."""


class Head(msgspec.Struct, forbid_unknown_fields=True):
    """The sensor head: its serial port (udev name on a truck, a pty in the simulation). For its update over that port: files of its unit
    key (32 bytes) and of the public keys (PEM) whose images are trusted; without them it is updated by a technician alone."""

    port: SerialPort
    unit_key: str = ""
    image_keys: list[str] = []


class Box(msgspec.Struct, forbid_unknown_fields=True):
    """A box of the first fleet: its serial port; `fan` drives air through its dust sensor."""

    port: SerialPort
    fan: bool = True


class Gpsd(msgspec.Struct, forbid_unknown_fields=True):
    """Where gpsd's JSON stream is. `device` is the serial port that gpsd owns, for `python -m gateway.receiver` before it starts."""

    host: str = "127.0.0.1"
    port: Port = 2947
    device: str = ""


class Receiver(msgspec.Struct, forbid_unknown_fields=True):
    """A u-blox receiver that the recorder reads itself, where no gpsd runs: its serial port, and the time from fix to fix in ms."""

    port: SerialPort
    period_ms: int = 1000


class Bus(msgspec.Struct, forbid_unknown_fields=True):
    """Chips on this machine's own wires, where there is no head: an I2C device, and serial ports as "/dev/serial0=sps30". `chips`
    ("opt3001@0x46") names parts at another address than their first, `without` parts not to look for."""

    i2c: str = ""
    uarts: list[str] = []
    chips: list[str] = []
    without: list[str] = []

    def __post_init__(self) -> None:
        try:
            on_own_wires(self.i2c, self.chips, self.without, self.uarts)
        except PartError as error:
            raise ValueError(f"[bus] {error}") from error

    def ports(self) -> list[str]:
        """The paths of its serial ports."""
        return [text.rpartition("=")[0] for text in self.uarts]


class Camera(msgspec.Struct, forbid_unknown_fields=True):
    """A camera: an MJPEG URL (http://...) or a V4L2 device (/dev/video0). The rest is for V4L2: size and rate of its pictures,
    `exposure` in units of 100 µs and `focus` in the device's own; what is absent is left to the camera (automatic)."""

    name: CameraName
    source: Annotated[str, msgspec.Meta(min_length=1)]
    width: Count | None = None
    height: Count | None = None
    fps: Positive | None = None
    exposure: Count | None = None
    focus: Annotated[int, msgspec.Meta(ge=0)] | None = None

    def __post_init__(self) -> None:
        wanted = self.settings()
        if ("width" in wanted) != ("height" in wanted):
            raise ValueError(f"camera {self.name}: width and height go together")
        if wanted and not self.source.startswith("/dev/"):
            raise ValueError(f"camera {self.name}: {', '.join(wanted)} can be set on a V4L2 device only, not at {self.source}")

    def settings(self) -> dict[str, float]:
        """What a V4L2 device is to be set to: those of width, height, fps, exposure and focus that are given."""
        given = {name: getattr(self, name) for name in ("width", "height", "fps", "exposure", "focus")}
        return {name: value for name, value in given.items() if value is not None}


class Images(msgspec.Struct, forbid_unknown_fields=True):
    """Which images are kept (gateway/image_policy.py): `all`; `distance`, one per `metres` or `seconds`, whichever comes first, and while
    the truck stands one per `standing_seconds`; `event`, as `distance`, and all of `around_seconds` before and after an event.
    `ring_bytes` bounds the memory in which the images of all cameras together wait for an event."""

    policy: Literal["all", "distance", "event"] = "all"
    metres: Positive = 5.0
    seconds: Positive = 10.0
    standing_seconds: Positive = 60.0
    around_seconds: Positive = 10.0
    ring_bytes: int = MOST_RING_BYTES

    def __post_init__(self) -> None:
        if self.standing_seconds < self.seconds:
            raise ValueError(f"standing_seconds {self.standing_seconds:g} is less than seconds {self.seconds:g}")
        if not LEAST_RING_BYTES <= self.ring_bytes <= MOST_RING_BYTES:
            raise ValueError(f"ring_bytes is {self.ring_bytes}, not {LEAST_RING_BYTES} to {MOST_RING_BYTES}")


class Shock(msgspec.Struct, forbid_unknown_fields=True):
    """When the body's acceleration is an event: its magnitude within the band of `low_hz` to `high_hz` above `threshold` in m/s²;
    shocks less than `quiet_seconds` apart are one. Why these defaults: gateway/shock.py."""

    threshold: Positive = 10.0
    low_hz: Positive = 1.0
    high_hz: Positive = 30.0
    quiet_seconds: Positive = 2.0

    def __post_init__(self) -> None:
        if not self.low_hz < self.high_hz < HIGHEST_HZ:
            raise ValueError(f"the band must be low_hz < high_hz < {HIGHEST_HZ:g}, not {self.low_hz:g} to {self.high_hz:g}")


class Tilt(msgspec.Struct, forbid_unknown_fields=True):
    """When the box no longer stands as it was fitted: its axis `up` (of the IMU, hardware.md) more than `angle` degrees from the vertical
    for `seconds`."""

    angle: Annotated[float, msgspec.Meta(ge=10, le=170)] = 30.0
    seconds: Positive = 3.0
    up: Literal["x", "-x", "y", "-y", "z", "-z"] = "z"


class Inputs(msgspec.Struct, forbid_unknown_fields=True):
    """Switches of the truck, as keys of Linux input devices (gpio-keys; hardware.md): key codes of the bookmark button, of the contact that
    is pressed while the box is open, and of the ignition (pressed while on). `ignition_seconds`: how long it must be off to end the
    shift."""

    devices: Annotated[list[SerialPort], msgspec.Meta(min_length=1)]
    bookmark: KeyCode | None = None
    opened: KeyCode | None = None
    ignition: KeyCode | None = None
    ignition_seconds: Positive = 5.0

    def __post_init__(self) -> None:
        codes = [code for code in (self.bookmark, self.opened, self.ignition) if code is not None]
        if len(set(codes)) < max(1, len(codes)):
            raise ValueError(f"bookmark, opened and ignition need a key code each, or at least one of them: {codes or 'none'}")


class Depot(msgspec.Struct, forbid_unknown_fields=True):
    """A place the trucks come home to: degrees north and east, radius in metres."""

    name: str
    latitude: Annotated[float, msgspec.Meta(ge=-90, le=90)]
    longitude: Annotated[float, msgspec.Meta(ge=-180, le=180)]
    radius: Positive = 150.0


LinkClass = Literal["metered", "unmetered", "depot"]  # from dear to cheap
LeastClass = Literal["any", "unmetered", "depot"]


class LinkRule(msgspec.Struct, forbid_unknown_fields=True):
    """What class a link is: the first rule that fits holds (gateway/uplink_ways.py). `interface` and `ssid` are shell patterns; `hours` is
    a window of the truck's UTC day, as "13:00-21:00" (it may pass midnight). A link whose `monthly_bytes` are used up carries live values
    and events only until the month (UTC) is over."""

    link: LinkClass
    interface: str = "*"
    ssid: str | None = None
    hours: Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d\Z")] | None = None
    monthly_bytes: Count | None = None


class Uplink(msgspec.Struct, forbid_unknown_fields=True):
    """What may use which link, in the order of sending (design 4): the packed blocks beside the live values, segments of readings, images
    that the center asked for, all other images. Live values, events and health use any. `network_manager`: ask it whether a link is
    metered, where no rule fits; a link that nobody knows of is `unmetered`. `metrics_port`: Prometheus, on loopback (0: none).
    `carsensor`: publish also as the first fleet did, under this number (sox/carsensor.py), at `carsensor_hz` samples a second."""

    rules: list[LinkRule] = []
    network_manager: bool = True
    packed: LeastClass = "any"
    readings: LeastClass = "any"
    requested: LeastClass = "any"
    images: LeastClass = "unmetered"
    metrics_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    carsensor: Annotated[int, msgspec.Meta(ge=0, le=999)] | None = None
    carsensor_hz: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0  # of the node carsensorNNN_100Hz; 0: none


class Truck(msgspec.Struct, forbid_unknown_fields=True):
    """All settings of one truck. Sizes in bytes, times in seconds."""

    name: str
    spool: str
    live_socket: str
    hub: Hub
    head: Head | None = None
    box: Box | None = None
    gpsd: Gpsd | None = None
    receiver: Receiver | None = None
    bus: Bus | None = None
    cameras: list[Camera] = []
    images: Images = msgspec.field(default_factory=Images)
    shock: Shock = msgspec.field(default_factory=Shock)
    tilt: Tilt = msgspec.field(default_factory=Tilt)
    inputs: Inputs | None = None
    depots: list[Depot] = []
    uplink: Uplink = msgspec.field(default_factory=Uplink)
    shrink: Literal["no", "huffman", "jpeg-xl"] = "no"  # images, without loss, while the truck is parked
    readings_segment_seconds: float = 60.0
    images_segment_seconds: float = 60.0
    images_segment_bytes: int = 16_000_000
    spool_quota_bytes: int = 200_000_000_000
    free_reserve_bytes: int = 1_000_000_000
    thinning_reserve_bytes: int = 256_000_000  # kept free for the sweeper to write thinned images before it deletes their originals


def load(path: str | Path) -> Truck:
    """The configuration in the TOML file `path`; raises ConfigError."""
    try:
        truck = msgspec.toml.decode(Path(path).read_bytes(), type=Truck)
        check_truck(truck.name)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, BadName) as error:
        raise ConfigError(f"{path}: {error}") from error
    _check_ports(path, truck)
    _check_cameras(path, truck)
    names = [depot.name for depot in truck.depots]
    if len(set(names)) < len(names):
        raise ConfigError(f"{path}: two [[depots]] of one name: {', '.join(names)}")
    if truck.head is not None and truck.bus is not None:
        raise ConfigError(f"{path}: [head] and [bus] would be two sources of the same readings: take one of them out")
    if truck.gpsd is not None and truck.receiver is not None:
        raise ConfigError(f"{path}: [gpsd] and [receiver] are two owners of one receiver: take one of them out")
    if truck.receiver is not None and not 100 <= truck.receiver.period_ms <= 10_000:
        raise ConfigError(f"{path}: period_ms of [receiver] is {truck.receiver.period_ms}, not 100 to 10000")
    return truck


def _check_cameras(path: str | Path, truck: Truck) -> None:
    """Each camera has a name and a source of its own."""
    if len(truck.cameras) > MOST_CAMERAS:
        raise ConfigError(f"{path}: {len(truck.cameras)} cameras, not up to {MOST_CAMERAS}")
    for what in ("name", "source"):
        said = [getattr(camera, what) for camera in truck.cameras]
        if twice := sorted({one for one in said if said.count(one) > 1}):
            raise ConfigError(f"{path}: two [[cameras]] of one {what}: {', '.join(twice)}")


def _check_ports(path: str | Path, truck: Truck) -> None:
    """Each serial port has one owner."""
    parts = (("[head]", truck.head), ("[box]", truck.box), ("[receiver]", truck.receiver))
    serial = [(f"port of {name}", part.port) for name, part in parts if part is not None]
    if truck.gpsd is not None and truck.gpsd.device:
        serial.append(("device of [gpsd]", truck.gpsd.device))
    serial += [("uarts of [bus]", port) for port in (truck.bus.ports() if truck.bus is not None else [])]
    owners: dict[str, str] = {}
    for name, port in serial:
        if port in owners:
            raise ConfigError(f"{path}: {owners[port]} and {name} are the same: {port}")
        owners[port] = name
