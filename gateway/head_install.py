"""A version into the spare slot of a head in maintenance, and that slot on trial (docs/formats.md section 9): the same for a technician's
`cruisers flash` and for a gateway's `cruisers head update`.

Recovery. The slot that runs is not touched. What has the right hash stays, the rest is written beside its name, hashed on the unit and
renamed; at last the manifest. Cut anywhere, the head runs what it ran, and the same once more writes only what is missing.

Errors: LineError, ImageError where the policy forbids the image, HeadError where the head does not take it."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from firmware import boot_manifest
from firmware.parts import chosen
from gateway.head_image import Image, permit
from gateway.head_reach import HeadError, slots
from gateway.head_repl import LONG_CALL_S, Repl

_PARTS_MAX = 1024

Report = Callable[[str, float], None]  # what is being done, and which part of all of it is done (0 to 1)


class Flash:
    """The files of a head in maintenance: `present` are those on it, (size, SHA-256) by path; `expected` the SHA-256 of what is to be
    there at the end; `written` counts what was written or removed."""

    def __init__(self, line: Repl) -> None:
        self.line = line
        self.present = line.tree()
        self.expected: dict[str, str] = {}
        self.written = 0

    def put(self, path: str, content: bytes) -> None:
        """A file; one with the right hash stays as it is."""
        wanted = (len(content), hashlib.sha256(content).hexdigest())
        self.expected[path] = wanted[1]
        if self.present.get(path) != wanted:
            self.line.write(path, content)
            self.present[path] = wanted
            self.written += 1

    def remove(self, path: str) -> None:
        """Takes a file away."""
        self.line.remove(path)
        self.written += 1
        del self.present[path]

    def hash_of(self, path: str) -> str:
        """SHA-256 of a file as it is, "" if there is none."""
        return self.present.get(path, (0, ""))[1]

    def slot_hashes(self, slot: str) -> dict[str, str]:
        """SHA-256 by path in the slot, its manifest and the rubbish of interrupted writes aside."""
        here = {path[2:]: digest for path, (_, digest) in self.present.items() if path.startswith(f"{slot}/")}
        return {path: digest for path, digest in here.items() if path != "manifest" and not path.endswith(".new")}


def parts(flash: Flash) -> list[Any] | None:
    """The head's own list of parts, None if it has none: the standard fit. HeadError if it makes no sense."""
    if "parts.json" not in flash.present:
        return None
    flash.expected["parts.json"] = flash.hash_of("parts.json")
    try:
        listed = json.loads(flash.line.read("parts.json", _PARTS_MAX))
    except ValueError as error:
        raise HeadError("the head's parts.json makes no sense: cruisers flash --parts FILE gives it one") from error
    problem = chosen(listed)[1]
    if problem:
        raise HeadError(f"the head's parts.json: {problem}: cruisers flash --parts FILE gives it one")
    assert isinstance(listed, list)
    return listed


def install(flash: Flash, image: Image, key: bytes, *, signed: bool, downgrade: bool, report: Report) -> tuple[str, bool]:
    """The slot that holds the image and runs from the next start on, and whether it does so on trial. `signed`: the same version must have
    the same content. Where nothing else is whole there is nothing to try against: then it is confirmed."""
    manifest = boot_manifest.make(image.version, dict(image.files), key)
    slot, running = _chosen(flash, image, hashlib.sha256(manifest).hexdigest(), signed, downgrade)
    if slot != running:
        _fill(flash, slot, image, manifest, report)
    for path, digest in image.hashes().items():
        flash.expected[f"{slot}/{path}"] = digest
    flash.expected[f"{slot}/manifest"] = hashlib.sha256(manifest).hexdigest()
    line = flash.line
    slots(line)
    if slot != running:
        fault = line.call(f"answer = slots.fault({slot!r})", LONG_CALL_S)
        if fault:
            raise HeadError(f"slot {slot} is not whole: {fault}")
    elif line.call("answer = slots.state()")[:2] == [slot, "good"]:
        return slot, False
    else:  # it runs, but the switch does not say so: an interrupted run
        running = ""
    line.call(f"slots.try_out({slot!r})", LONG_CALL_S)
    if not running:
        line.call("slots.confirm()")
    return slot, bool(running)


def _chosen(flash: Flash, image: Image, manifest: str, signed: bool, downgrade: bool) -> tuple[str, str]:
    """Where the image belongs, and where a whole version runs now ("": nowhere). The two are the same when it is there already."""
    line = flash.line
    slots(line)
    running, standing, _ = line.call("answer = slots.state()")
    if standing != "good" or not running or line.call(f"answer = slots.fault({running!r})", LONG_CALL_S):
        # Never into the only whole one, though it be on trial.
        order = ("b", "a") if running == "a" else ("a", "b")
        running = next((slot for slot in order if not line.call(f"answer = slots.fault({slot!r})", LONG_CALL_S)), "")
    if running:
        version = str(line.call(f"answer = slots.version({running!r})"))
        files = flash.slot_hashes(running)
        permit(image, version, files if signed else None, downgrade=downgrade)
        if files == image.hashes() and flash.hash_of(f"{running}/manifest") == manifest:
            return running, running
    return ("b" if running == "a" else "a"), running


def _fill(flash: Flash, slot: str, image: Image, manifest: bytes, report: Report) -> None:
    for path in [path for path in flash.present if path.startswith(f"{slot}/")]:
        if path[2:] not in image.files and path[2:] != "manifest":
            flash.remove(path)
    total = sum(map(len, image.files.values())) or 1
    done = 0
    for path, content in sorted(image.files.items()):
        flash.put(f"{slot}/{path}", content)
        done += len(content)
        report("write", 0.1 + 0.5 * done / total)
    flash.put(f"{slot}/manifest", manifest)
