"""A new version into the spare slot, file by file (docs/formats.md section 9); the head runs on from the other one.

    slot = prepare()                                    its folders are there
    ... the sender writes <slot>/manifest.new ...
    begin(slot)                                         the manifest is checked, what it does not list is removed
    for path, digest in missing(slot):
        ... the sender writes <slot>/<path>.new ...
        slots.settle(slot + "/" + path, digest)         read back, renamed
    finish(slot)                                        the whole slot is verified, the next start is on trial

Recovery. Cut anywhere, the slot that runs is as it was; the same steps again write only what is missing."""

import os

from firmware import slots
from firmware.slots import FOLDERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def prepare() -> str:
    """The spare slot, with its folders."""
    slot = slots.spare()
    for path in (slot, slot + "/drivers", slot + "/firmware"):
        try:
            os.stat(path)
        except OSError:  # not there yet
            os.mkdir(path)
    return slot


def begin(slot: str) -> None:
    """Raises Fault when `manifest.new` is not one for this unit; then nothing was touched."""
    manifest = slot + "/manifest.new"
    slots.check(manifest)
    listed = {path for path, _, _ in slots.files(manifest)}
    for folder in FOLDERS:
        for name in os.listdir(f"{slot}/{folder}"):
            if f"{folder}/{name}" not in listed:
                os.remove(f"{slot}/{folder}/{name}")
    for name in os.listdir(slot):
        if name not in ("drivers", "firmware", "manifest", "manifest.new"):
            os.remove(f"{slot}/{name}")


def missing(slot: str) -> "Iterator[tuple[str, str]]":
    """(path, SHA-256) of each file that must be sent: the others are there already."""
    for path, digest, size in slots.files(slot + "/manifest.new"):
        if slots.differs(f"{slot}/{path}", digest, size):
            yield path, digest


def finish(slot: str) -> None:
    """The next start runs the slot on trial. Raises Fault or ValueError (why it is not whole): nothing is switched."""
    slots.check(slot + "/manifest.new")
    os.rename(slot + "/manifest.new", slot + "/manifest")
    slots.try_out(slot)
