"""One unit from whatever state it is in to a proved version: what `cruisers flash` does at one port (docs/formats.md section 9).

    reach      a head on duty is asked into maintenance; a board with nothing but MicroPython is there already
    install    key, list of parts, board's files, spare slot: what has the right hash stays, the rest is written anew
    try        the slot runs on trial; the self-test hears every sensor
    prove      in maintenance again, after that reset, every file on the flash is hashed once more; then the version is confirmed
    duty       a last reset, and the head says its version

Recovery. Cut anywhere, the version that ran before runs on, or the board has its REPL as it was delivered; the same command again writes
only what is missing. Nothing is believed of an interrupted run. The proof is the caller's to write down, and there is one only at the end.

Files on the flash that are not in section 9's table are removed: a stray `json.py` there would be imported instead of the real one."""

import contextlib
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firmware import boot_manifest, frames
from firmware.parts import PARTS, STANDARD, chosen
from fleet.passport import KEY_BYTES, Folder, Passport, fingerprint, new_key, now
from gateway.head_duty import Duty, SelfTestError, Sensor
from gateway.head_image import Image, ImageError, permit
from gateway.head_repl import LONG_CALL_S, RESET_S, LineError, Repl

REACH_S = 30.0  # a head starts within 5: it hashes its slot, then loads 60 kB
MICROPYTHON = (1, 28)
_MPY = 6
_OWN = re.compile(r"(a|b)/.*|switch\.[a-z0-9]+|unit\.key|parts\.json|maintenance")
_SLOT_FILE = re.compile(r"(drivers|firmware)/[A-Za-z0-9_]+\.mpy")
_PARTS_MAX = 1024

# From a REPL into which a version fell, as from one it never saw: the board's own modules, not a slot's.
_BOARD = """
import sys
for path in ('/a', '/b'):
    while path in sys.path:
        sys.path.remove(path)
for name in list(sys.modules):
    if name.split('.')[0] in ('firmware', 'drivers'):
        del sys.modules[name]
"""


class UnitError(Exception):
    """The unit was not proved; one line says why. It starts whatever whole version it has."""


@dataclass(frozen=True)
class Plan:
    """What shall be on the unit at `port`. `image` None: roll back. `truck` "": the one of its passport. `parts` None: those on the
    head, or of its passport."""

    port: str
    truck: str
    image: Image | None
    board_files: Mapping[str, bytes]
    folder: Path
    parts: list[Any] | None = None
    signed: bool = False
    downgrade: bool = False
    technician: str = ""
    cruisers: str = ""


@dataclass(frozen=True)
class Proof:
    """What was proved, and what it took: files written to the unit, and whether its passport says the same already."""

    passport: Passport
    written: int
    known: bool


Report = Callable[[str, float], None]  # what is being done, and which part of all of it is done (0 to 1)


def run(plan: Plan, report: Report = lambda stage, part: None) -> Proof:
    """Does all of it. UnitError, or PassportError and OSError where the passports cannot be read or the key not be kept."""
    try:
        return _Work(plan, report).run()
    except (LineError, SelfTestError, ImageError) as error:
        raise UnitError(str(error)) from error


@dataclass
class _Work:
    plan: Plan
    report: Report
    unit: str = ""
    runtime: str = ""
    key: bytes = b""
    parts: list[Any] | None = None  # None: none on the head, the standard fit
    written: int = 0
    before: Passport | None = None
    expected: dict[str, str] = field(default_factory=dict)  # path on the flash: SHA-256

    def run(self) -> Proof:
        self.report("connect", 0.0)
        folder = Folder(self.plan.folder)
        with _maintenance(self.plan.port) as line:
            self._identify(line, folder)
            truck = self.plan.truck or (self.before.truck if self.before else "")
            if not truck:
                raise UnitError(f"unit {self.unit} has no passport in {self.plan.folder}: say its truck with --truck")
            slot = self._roll_back(line) if self.plan.image is None else self._install(line, folder, self.plan.image)
        self.report("self-test", 0.7)
        sensors = self._self_test()
        self.report("prove", 0.9)
        with _maintenance(self.plan.port) as line:
            version = self._prove(line, slot)
        self._on_duty(version)
        utc, source = now()
        files = {path: digest for path, digest in self.expected.items() if path != "unit.key"}
        passport = Passport(
            self.unit, truck, version, self.runtime, files, fingerprint(self.key),
            self.parts or [{"part": part} for part in STANDARD], sensors, self.plan.technician, utc, source, self.plan.cruisers,
        )  # fmt: skip
        self.report("done", 1.0)
        return Proof(passport, self.written, self.before is not None and self.before.proves(passport))

    # --- reach and identify

    def _identify(self, line: Repl, folder: Folder) -> None:
        about = line.call(
            "import sys, machine\n"
            "answer = [binascii.hexlify(machine.unique_id()).decode(), sys.implementation.name, list(sys.implementation.version[:3]), "
            "getattr(sys.implementation, '_mpy', 0) & 255, sys.platform]"
        )
        unit, name, numbers, mpy, platform = about
        self.unit = unit
        self.runtime = f"{name} {'.'.join(str(number) for number in numbers)} {platform}"
        if tuple(numbers[:2]) < MICROPYTHON or mpy != _MPY:
            raise UnitError(
                f"{self.runtime} (bytecode {mpy}) is on the board; {MICROPYTHON[0]}.{MICROPYTHON[1]} with bytecode {_MPY} is needed: --uf2"
            )
        self.before = folder.passport(unit)

    # --- install

    def _install(self, line: Repl, folder: Folder, image: Image) -> str:
        """Everything but confirmation; returns the slot that runs from the next start on."""
        present = line.tree()
        self.report("compare", 0.05)
        self._clean(line, present)
        self._key(line, folder, present)
        self._parts(line, present)
        for path, content in self.plan.board_files.items():
            if not _last(path):
                self._put(line, present, path, content)
        manifest = boot_manifest.make(image.version, dict(image.files), self.key)
        slot, running = self._slot(line, present, image, hashlib.sha256(manifest).hexdigest())
        if slot != running:
            self._fill(line, present, slot, image, manifest)
        for path, content in image.files.items():
            self.expected[f"{slot}/{path}"] = hashlib.sha256(content).hexdigest()
        self.expected[f"{slot}/manifest"] = hashlib.sha256(manifest).hexdigest()
        line.call(_BOARD + "from firmware import slots\n")
        if slot != running:
            fault = line.call(f"answer = slots.fault({slot!r})", LONG_CALL_S)
            if fault:
                raise UnitError(f"slot {slot} is not whole: {fault}")
            line.call(f"slots.try_out({slot!r})", LONG_CALL_S)
        elif line.call("answer = slots.state()")[:2] != [slot, "good"]:  # it runs, but the switch does not say so: an interrupted run
            line.call(f"slots.try_out({slot!r})", LONG_CALL_S)
            running = ""
        if not running:  # there is nothing else it could run
            line.call("slots.confirm()")
        for path, content in self.plan.board_files.items():
            if _last(path):
                self._put(line, present, path, content)
        return slot

    def _clean(self, line: Repl, present: dict[str, tuple[int, str]]) -> None:
        """Removes what is none of ours, and what interrupted writes left."""
        for path in list(present):
            inside = path.split("/", 1)[1] if path[:2] in ("a/", "b/") else ""
            foreign = path not in self.plan.board_files and not _OWN.fullmatch(path)
            if foreign or path.endswith(".new") or (inside and inside != "manifest" and not _SLOT_FILE.fullmatch(inside)):
                line.remove(path)
                self.written += 1
                del present[path]

    def _key(self, line: Repl, folder: Folder, present: dict[str, tuple[int, str]]) -> None:
        """The unit's key: the head's own, because its slots are signed with it; else the one kept here; else a new one. It is kept here
        before the head has it."""
        if present.get("unit.key", (0, ""))[0] == KEY_BYTES:
            self.key = line.read("unit.key", KEY_BYTES)
            if hashlib.sha256(self.key).hexdigest() != present["unit.key"][1]:
                raise LineError("unit.key changed on the way")
        else:
            self.key = folder.key(self.unit) or new_key()
        folder.keep_key(self.unit, self.key)
        self._put(line, present, "unit.key", self.key)

    def _parts(self, line: Repl, present: dict[str, tuple[int, str]]) -> None:
        """The list of parts: the technician's, else the head's, else its passport's, else none."""
        wanted = self.plan.parts
        if wanted is None and "parts.json" in present:
            self._read_parts(line)
            self.expected["parts.json"] = present["parts.json"][1]
            return
        if wanted is None and self.before is not None and "parts.json" in self.before.files:
            wanted = self.before.parts
        if wanted is not None:
            self.parts = wanted
            self._put(line, present, "parts.json", (json.dumps(wanted) + "\n").encode())

    def _read_parts(self, line: Repl) -> None:
        try:
            self.parts = json.loads(line.read("parts.json", _PARTS_MAX))
        except ValueError as error:
            raise UnitError("the head's parts.json makes no sense: give its parts with --parts FILE") from error
        problem = chosen(self.parts)[1]
        if problem:
            raise UnitError(f"the head's parts.json: {problem}: give its parts with --parts FILE")

    def _slot(self, line: Repl, present: dict[str, tuple[int, str]], image: Image, manifest: str) -> tuple[str, str]:
        """Where the image belongs, and where a whole version runs now ("": nowhere). The two are the same when it is there already."""
        line.call(_BOARD + "from firmware import slots\n")
        running, standing, _ = line.call("answer = slots.state()")
        if standing != "good" or not running or line.call(f"answer = slots.fault({running!r})", LONG_CALL_S):
            whole = [slot for slot in ("a", "b") if slot != running and not line.call(f"answer = slots.fault({slot!r})", LONG_CALL_S)]
            running = whole[0] if whole else ""
        if running:
            version = str(line.call(f"answer = slots.version({running!r})"))
            files = {path[2:]: digest for path, (_, digest) in present.items() if path.startswith(f"{running}/") and path[2:] != "manifest"}
            permit(image, version, files if self.plan.signed else None, downgrade=self.plan.downgrade)
            if files == image.hashes() and present[f"{running}/manifest"][1] == manifest:
                return running, running
        return ("b" if running == "a" else "a"), running

    def _fill(self, line: Repl, present: dict[str, tuple[int, str]], slot: str, image: Image, manifest: bytes) -> None:
        for path in [path for path in present if path.startswith(f"{slot}/")]:
            if path[2:] not in image.files and path[2:] != "manifest":
                line.remove(path)
                self.written += 1
        total = sum(map(len, image.files.values())) or 1
        done = 0
        for path, content in sorted(image.files.items()):
            self._put(line, present, f"{slot}/{path}", content)
            done += len(content)
            self.report("write", 0.1 + 0.5 * done / total)
        self._put(line, present, f"{slot}/manifest", manifest)

    def _put(self, line: Repl, present: dict[str, tuple[int, str]], path: str, content: bytes) -> None:
        """A file on the flash; one with the right hash stays as it is."""
        wanted = (len(content), hashlib.sha256(content).hexdigest())
        self.expected[path] = wanted[1]
        if present.get(path) != wanted:
            line.write(path, content)
            self.written += 1

    # --- roll back

    def _roll_back(self, line: Repl) -> str:
        line.call("from firmware import slots\n")
        running = line.call("answer = slots.state()")[0] or "a"
        slot = "b" if running == "a" else "a"
        if not line.call(f"answer = slots.version({slot!r})"):
            raise UnitError("no way back: no other version is on this unit")
        fault = line.call(f"answer = slots.fault({slot!r})", LONG_CALL_S)
        if fault:
            raise UnitError(f"no way back: the version in slot {slot} is not whole ({fault})")
        key = Folder(self.plan.folder).key(self.unit) or line.read("unit.key", KEY_BYTES)
        self.key = key
        present = line.tree()
        if "parts.json" in present:
            self._read_parts(line)
        listed = _listed(line.read(f"{slot}/manifest", 8192), key)
        self.expected = {
            path: digest for path, (_, digest) in present.items() if path[:2] not in ("a/", "b/") and not path.startswith("switch.")
        }
        self.expected.update({f"{slot}/{path}": digest for path, digest in listed.items()})
        self.expected[f"{slot}/manifest"] = present[f"{slot}/manifest"][1]
        line.call("slots.roll_back()", LONG_CALL_S)
        self.written += 1
        return slot

    # --- try, prove, duty

    def _self_test(self) -> dict[str, Sensor]:
        names = [str(entry["part"]) for entry in self.parts] if self.parts else list(STANDARD)
        fitted = {frames.SENSORS[PARTS[name][0]] for name in names}
        with _on_duty(self.plan.port, self.unit) as head:
            return head.self_test(fitted, lambda passed, of: self.report("self-test", 0.7 + 0.2 * passed / of))

    def _prove(self, line: Repl, slot: str) -> str:
        """After the reset: every byte on the flash is what was meant, then the version is confirmed. The version."""
        found = {path: digest for path, (_, digest) in line.tree().items()}
        other = "b/" if slot == "a" else "a/"
        for path, digest in self.expected.items():
            if found.pop(path, "") != digest:
                raise UnitError(f"{path} on the flash is not what was sent")
        strange = [path for path in found if not path.startswith((other, "switch.")) and path != "maintenance"]
        if strange:
            raise UnitError(f"{strange[0]} is on the flash, and nobody wrote it there")
        line.call(_BOARD + "from firmware import slots\n")
        fault = line.call(f"answer = slots.fault({slot!r})", LONG_CALL_S)
        if fault:
            raise UnitError(f"slot {slot} is not whole: {fault}")
        if line.call("answer = slots.state()[1]") == "trial":
            line.call("slots.confirm()")
        if line.call("answer = slots.state()")[:2] != [slot, "good"]:
            raise UnitError("the head did not stay with the new version")
        return str(line.call(f"answer = slots.version({slot!r})"))

    def _on_duty(self, version: str) -> None:
        with _on_duty(self.plan.port, self.unit) as head:
            about = head.hello(REACH_S) or {}
        if self.plan.image is not None and about.get("firmware") != version:
            raise UnitError(f"the head runs {about.get('firmware')!r}, not {version!r}")


def _last(path: str) -> bool:
    """Whether a board's file is one of those that make it start a version: they come last."""
    return path in ("boot.py", "main.py")


def _listed(manifest: bytes, key: bytes) -> dict[str, str]:
    """Each file's SHA-256 in a head's manifest, when it is signed with the unit's key. UnitError if not."""
    end = manifest.rfind(b"hmac ")
    if end < 0 or not hmac.compare_digest(manifest, boot_manifest.signed(manifest[:end], key)):
        raise UnitError("the manifest of the other slot is not signed with this unit's key")
    words = [line.split() for line in manifest.decode().splitlines()]
    return {row[3]: row[1] for row in words if len(row) == 4 and row[0] == "file"}


@contextlib.contextmanager
def _maintenance(port: str) -> Iterator[Repl]:
    """The unit's raw REPL; whatever happens there, the unit goes back to duty with the version that its switch names."""
    line = reach(port)
    try:
        yield line
    finally:
        line.reset()


def reach(port: str) -> Repl:
    """The unit's raw REPL, whatever it does now. LineError when nobody there answers in time."""
    until = time.monotonic() + REACH_S
    asked = False
    problem = "no such port"
    while time.monotonic() < until:
        if Path(port).exists():
            try:
                if not asked:
                    with Duty(port) as head:
                        if head.hello() is not None:
                            head.command(frames.MAINTENANCE)
                            asked = True
                            time.sleep(RESET_S)
                line = Repl(port)
                line.call(_BOARD)
                return line
            except LineError as error:
                problem = "a head answers, but does not go into maintenance" if asked else str(error)
                asked = False
        time.sleep(0.05)
    raise LineError(f"{port}: not reached: {problem}")


def _on_duty(port: str, unit: str) -> Duty:
    """The head when it has started its program. LineError, UnitError if it is another one."""
    until = time.monotonic() + REACH_S
    problem = "no such port"
    while time.monotonic() < until:
        if Path(port).exists():
            head: Duty | None = None
            try:
                head = Duty(port)
                about = head.hello()
                if about is not None:
                    if about.get("unique_id") != unit:
                        raise UnitError(f"another unit is at {port} now: {about.get('unique_id')}")
                    return head
                problem = "no HELLO"
            except LineError as error:
                problem = str(error)
            if head is not None:
                head.__exit__()
        time.sleep(0.1)
    raise LineError(f"{port}: the head does not come on duty ({problem})")
