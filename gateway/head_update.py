"""`cruisers head update`: the program of the truck's own head brought up to date from its Pi, over the running serial link, without a
technician.

Before the head is touched: the image's signature under a trusted key, the truck parked, the port free, and by the head's HELLO whether the
version policy allows it and whether it is needed at all (gateway/head_known.py: a head that has it already is not even reset). Where HELLO
and that file do not tell enough, the head goes into maintenance and its flash is looked at: equal hashes are skipped, and where all are
equal nothing is written, but such a head has been reset.

Then the way of gateway/head_prove.py. It changes one slot and the switch, nothing else: key, list of parts and the board's own files must
be at the end what they were at the beginning.

Recovery. Killed or cut anywhere, the head runs one whole version or the other, and the same call again completes it. Meanwhile the port is
locked: a recorder that begins a shift finds it busy and tries again twice a second. In the moments of a reset it may take the head all the
same. Then the update ends as "not now" unless it gets the port back within REACH_S, and the head goes on by itself: a new version, on
trial, confirms or withdraws itself, and a head in maintenance is back on duty after 10 min.

Errors: InputError, NotNow, UpdateFailed."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import head_install, head_known, head_process
from gateway.config import ConfigError, Truck
from gateway.config import load as load_config
from gateway.head_duty import Duty, SelfTestError
from gateway.head_image import Image, ImageError, permit, public_key, read
from gateway.head_install import Flash, Report
from gateway.head_known import Known
from gateway.head_process import ProcessError
from gateway.head_prove import Intent, session
from gateway.head_reach import HeadError, identify
from gateway.head_repl import BusyError, LineError, Repl
from gateway.inputs import ignition_is_on

KNOWN = "head.json"  # in the spool
HELLO_S = 3.0  # a head that does not answer in that time may be in maintenance
KEY_BYTES = 32
_LOOK_S = 0.05


class InputError(Exception):
    """Image, keys, configuration, or an image that the policy forbids on this head; nothing was changed. One line."""


class NotNow(Exception):
    """The truck works, or nobody knows whether it does, or another process has the head; one line."""


class UpdateFailed(Exception):
    """The head was not proved with the new version; one line says why. It runs what it ran before or, where the line itself failed, the new
    one until its trial is over."""


@dataclass(frozen=True)
class Request:
    """The head at `port` shall run `image`. `key`, from `key_file`, is the unit's; `known` the file of gateway/head_known.py."""

    port: str
    image: Image
    key: bytes
    key_file: str
    known: Path
    downgrade: bool = False


@dataclass(frozen=True)
class Updated:
    """The head `unit` runs `version`; `before` ran before ("": it did not say). `written`: files written or removed on it. `reset`: whether
    it has been in maintenance. `note`: what could not be kept about it on this machine."""

    unit: str
    before: str
    version: str
    written: int
    reset: bool
    note: str = ""


def request(image: Path, config: Path, *, downgrade: bool, parked: bool) -> Request:
    """The request, when everything but the head is well. `parked`: the caller says that the truck is, where no switch does. InputError,
    NotNow."""
    try:
        truck = load_config(config)
        if truck.head is None:
            raise InputError(f"{config}: no [head]")
        if not truck.head.image_keys:
            raise InputError(f"{config}: no image_keys in [head]: no image is trusted")
        if not truck.head.unit_key:
            raise InputError(f"{config}: no unit_key in [head]")
        wanted = read(image, [public_key(Path(key)) for key in truck.head.image_keys])
        key = Path(truck.head.unit_key).read_bytes()
    except (ConfigError, ImageError) as error:
        raise InputError(str(error)) from error
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}") from error
    if len(key) != KEY_BYTES:
        raise InputError(f"{truck.head.unit_key}: not the {KEY_BYTES} bytes of a unit's key")
    _must_be_parked(truck, parked)
    return Request(truck.head.port, wanted, key, truck.head.unit_key, Path(truck.spool) / KNOWN, downgrade)


def _must_be_parked(truck: Truck, said: bool) -> None:
    on = ignition_is_on(truck.inputs) if truck.inputs is not None else None
    if on:
        raise NotNow("the ignition is on")
    if on is None and not said:
        raise NotNow("no switch says whether the truck is parked; if it is, stop the recorder and say --parked")


def update(wanted: Request, report: Report, limit_s: float = head_process.LIMIT_S) -> Updated:
    """All of it, in a process of its own with a time limit. InputError, NotNow, UpdateFailed."""
    try:
        done = head_process.run(work, wanted, report, (InputError, NotNow, UpdateFailed), limit_s)
    except ProcessError as error:
        raise UpdateFailed(str(error)) from error
    assert done is not None
    return done


def work(wanted: Request, report: Report) -> Updated:
    """All of it, in this process. InputError, NotNow, UpdateFailed."""
    try:
        return _Work(wanted, report).run()
    except BusyError as error:
        raise NotNow(f"{wanted.port} is in use (the recorder has it while the truck works)") from error
    except ImageError as error:
        raise InputError(str(error)) from error
    except (LineError, SelfTestError, HeadError) as error:
        raise UpdateFailed(str(error)) from error


class _Work:
    def __init__(self, wanted: Request, report: Report) -> None:
        self.wanted = wanted
        self.report = report
        self.flash: Flash | None = None

    def run(self) -> Updated:
        hello = self._hello()
        before = str(hello.get("firmware", ""))
        if hello and self._is_known(hello, before):
            return Updated(str(hello["unique_id"]), before, before, 0, reset=False)
        intent: Intent | None = None

        def prepare(line: Repl) -> Intent:
            nonlocal intent
            intent = self._prepare(line)
            return intent

        proved = session(self.wanted.port, prepare, self.report)
        assert intent is not None and self.flash is not None
        known = Known(intent.unit, intent.slot, proved.version, self.wanted.image.hashes())
        note = ""
        try:
            head_known.keep(self.wanted.known, known)
        except OSError as error:
            note = f"{error.filename}: {error.strerror}"  # the next update looks at the flash again, no more
        return Updated(intent.unit, before, proved.version, self.flash.written, reset=True, note=note)

    def _hello(self) -> dict[str, Any]:
        """What the head says of itself; {} if nobody answers: the session finds out why. LineError."""
        until = time.monotonic() + HELLO_S
        while not Path(self.wanted.port).exists():  # it may have been reset a moment ago
            if time.monotonic() > until:
                raise LineError(f"{self.wanted.port}: no such port: the head is not plugged in")
            time.sleep(_LOOK_S)
        with Duty(self.wanted.port) as head:
            return head.hello(HELLO_S) or {}

    def _is_known(self, hello: dict[str, Any], running: str) -> bool:
        """Whether the head is known to have the image. ImageError where the policy forbids it."""
        known = head_known.load(self.wanted.known)
        files = known.files if known is not None and known.fits(hello) else None
        permit(self.wanted.image, running, files, downgrade=self.wanted.downgrade)
        return self.wanted.image.version == running and files is not None

    def _prepare(self, line: Repl) -> Intent:
        self.report("compare", 0.05)
        unit, _ = identify(line)
        self.flash = flash = Flash(line)
        if "unit.key" not in flash.present:
            raise InputError(f"unit {unit} has no key: cruisers flash installs it first")
        if flash.hash_of("unit.key") != hashlib.sha256(self.wanted.key).hexdigest():
            raise InputError(f"{self.wanted.key_file}: not the key of unit {unit}")
        parts = head_install.parts(flash)
        flash.expected = {
            path: digest
            for path, (_, digest) in flash.present.items()
            if not path.startswith(("a/", "b/", "switch.")) and path != "maintenance"
        }
        slot, tried = head_install.install(
            flash, self.wanted.image, self.wanted.key, signed=True, downgrade=self.wanted.downgrade, report=self.report
        )
        return Intent(unit, slot, tried, flash.expected, parts)
