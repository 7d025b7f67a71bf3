"""One unit from whatever state it is in to a proved version: what `cruisers flash` does at one port (docs/formats.md section 9).

The way of it is gateway/head_prove.py, which a gateway goes too. Here is what only a technician does: key, list of parts, the board's own
files, the first installation, the way back to the other slot, and the passport. What has the right hash stays, the rest is written anew.

Recovery. Cut anywhere, the version that ran before runs on, or the board has its REPL as it was delivered; the same command again writes
only what is missing. Nothing is believed of an interrupted run. The proof is the caller's to write down, and there is one only at the end.

Files on the flash that are not in section 9's table are removed: a stray `json.py` there would be imported instead of the real one."""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware import boot_manifest
from firmware.parts import STANDARD
from fleet.passport import KEY_BYTES, Folder, Passport, fingerprint, new_key, now
from gateway import head_install
from gateway.head_duty import SelfTestError
from gateway.head_image import Image, ImageError
from gateway.head_install import Flash, Report
from gateway.head_prove import Intent, session
from gateway.head_reach import HeadError, identify, slots
from gateway.head_repl import LONG_CALL_S, LineError, Repl

_OWN = re.compile(r"(a|b)/.*|switch\.[a-z0-9]+|unit\.key|parts\.json|maintenance")
_SLOT_FILE = re.compile(r"(drivers|firmware)/[A-Za-z0-9_]+\.mpy")


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


def run(plan: Plan, report: Report = lambda stage, part: None) -> Proof:
    """Does all of it. UnitError, or PassportError and OSError where the passports cannot be read or the key not be kept."""
    try:
        return _Work(plan, report).run()
    except (LineError, SelfTestError, ImageError, HeadError) as error:
        raise UnitError(str(error)) from error


class _Work:
    def __init__(self, plan: Plan, report: Report) -> None:
        self.plan = plan
        self.report = report
        self.folder = Folder(plan.folder)
        self.unit = self.runtime = self.truck = ""
        self.before: Passport | None = None
        self.key = b""
        self.parts: list[Any] | None = None  # None: none on the head, the standard fit
        self.expected: Mapping[str, str] = {}
        self.written = 0

    def run(self) -> Proof:
        proved = session(self.plan.port, self._prepare, self.report)
        utc, source = now()
        files = {path: digest for path, digest in self.expected.items() if path != "unit.key"}
        passport = Passport(
            self.unit, self.truck, proved.version, self.runtime, files, fingerprint(self.key),
            self.parts or [{"part": part} for part in STANDARD], proved.sensors, self.plan.technician, utc, source, self.plan.cruisers,
        )  # fmt: skip
        return Proof(passport, self.written, self.before is not None and self.before.proves(passport))

    def _prepare(self, line: Repl) -> Intent:
        self.unit, self.runtime = identify(line)
        self.before = self.folder.passport(self.unit)
        self.truck = self.plan.truck or (self.before.truck if self.before else "")
        if not self.truck:
            raise UnitError(f"unit {self.unit} has no passport in {self.plan.folder}: say its truck with --truck")
        flash = Flash(line)
        if self.plan.image is None:
            slot, tried = self._roll_back(flash), False
        else:
            slot, tried = self._install(flash, self.plan.image)
        self.expected, self.written = flash.expected, flash.written
        return Intent(self.unit, slot, tried, flash.expected, self.parts)

    # --- install

    def _install(self, flash: Flash, image: Image) -> tuple[str, bool]:
        """Everything but confirmation; the slot that runs from the next start on, and whether on trial."""
        self.report("compare", 0.05)
        self._clean(flash)
        self._key(flash)
        self._parts(flash)
        for path, content in self.plan.board_files.items():
            if not _last(path):
                flash.put(path, content)
        slot, tried = head_install.install(
            flash, image, self.key, signed=self.plan.signed, downgrade=self.plan.downgrade, report=self.report
        )  # fmt: skip
        for path, content in self.plan.board_files.items():
            if _last(path):
                flash.put(path, content)
        return slot, tried

    def _clean(self, flash: Flash) -> None:
        """Removes what is none of ours, and what interrupted writes left."""
        for path in list(flash.present):
            inside = path.split("/", 1)[1] if path[:2] in ("a/", "b/") else ""
            foreign = path not in self.plan.board_files and not _OWN.fullmatch(path)
            if foreign or path.endswith(".new") or (inside and inside != "manifest" and not _SLOT_FILE.fullmatch(inside)):
                flash.remove(path)

    def _key(self, flash: Flash) -> None:
        """The unit's key: the head's own, because its slots are signed with it; else the one kept here; else a new one. It is kept here
        before the head has it."""
        size, digest = flash.present.get("unit.key", (0, ""))
        if size == KEY_BYTES:
            self.key = flash.line.read("unit.key", KEY_BYTES)
            if hashlib.sha256(self.key).hexdigest() != digest:
                raise LineError("unit.key changed on the way")
        else:
            self.key = self.folder.key(self.unit) or new_key()
        self.folder.keep_key(self.unit, self.key)
        flash.put("unit.key", self.key)

    def _parts(self, flash: Flash) -> None:
        """The list of parts: the technician's, else the head's, else its passport's, else none."""
        wanted = self.plan.parts
        if wanted is None and "parts.json" in flash.present:
            self.parts = head_install.parts(flash)
            return
        if wanted is None and self.before is not None and "parts.json" in self.before.files:
            wanted = self.before.parts
        if wanted is not None:
            self.parts = wanted
            flash.put("parts.json", (json.dumps(wanted) + "\n").encode())

    # --- roll back

    def _roll_back(self, flash: Flash) -> str:
        line = flash.line
        slots(line)
        running = line.call("answer = slots.state()")[0] or "a"
        slot = "b" if running == "a" else "a"
        if not line.call(f"answer = slots.version({slot!r})"):
            raise UnitError("no way back: no other version is on this unit")
        fault = line.call(f"answer = slots.fault({slot!r})", LONG_CALL_S)
        if fault:
            raise UnitError(f"no way back: the version in slot {slot} is not whole ({fault})")
        self.key = self.folder.key(self.unit) or line.read("unit.key", KEY_BYTES)
        self.parts = head_install.parts(flash)
        listed = _listed(line.read(f"{slot}/manifest", 8192), self.key)
        flash.expected = {
            path: digest for path, (_, digest) in flash.present.items() if path[:2] not in ("a/", "b/") and not path.startswith("switch.")
        }
        flash.expected.update({f"{slot}/{path}": digest for path, digest in listed.items()})
        flash.expected[f"{slot}/manifest"] = flash.hash_of(f"{slot}/manifest")
        line.call("slots.roll_back()", LONG_CALL_S)
        flash.written += 1
        return slot


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
