"""Which file system and which disk a folder is on, by /proc/self/mountinfo and /sys."""

import re
from pathlib import Path
from typing import NamedTuple

from fleet.doctor_machine import Machine, text

SSD, NVME, SD, EMMC, USB, DISK = "SSD", "NVMe", "SD", "eMMC", "USB", "HDD"


class Mount(NamedTuple):
    """A mounted file system: kernel's number of its device (`8:1`), mount point, type, source, and all options, of mount and
    super block."""

    number: str
    point: str
    type: str
    source: str
    options: frozenset[str]

    def has(self, *names: str) -> bool:
        """Whether one of the options is set."""
        return any(name in self.options for name in names)


class Disk(NamedTuple):
    """A whole disk: its folder in /sys, the kernel's name (`sda`, `mmcblk0`), what it is, its model, and whether it takes discards."""

    folder: Path
    name: str
    kind: str
    model: str
    discards: bool


def mount_of(machine: Machine, folder: Path) -> Mount | None:
    """The file system that `folder` is on: of several at one place the last. Raises OSError."""
    where, found = folder.resolve(), None
    for line in (machine.proc / "self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        before, _, behind = line.partition(" - ")
        fields, more = before.split(), behind.split()
        if len(fields) < 6 or len(more) < 2:
            continue
        point = _unescaped(fields[4])
        if not where.is_relative_to(point) or (found is not None and len(point) < len(found.point)):
            continue
        options = frozenset([*fields[5].split(","), *(more[2].split(",") if len(more) > 2 else ())])
        found = Mount(fields[2], point, more[0], _unescaped(more[1]), options)
    return found


def _unescaped(name: str) -> str:
    """Blanks and the like stand in octal (proc(5))."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), name)


def disk_of(machine: Machine, mount: Mount) -> Disk | None:
    """The disk below a file system; None where the kernel names none (tmpfs, network). Below LVM or dm-crypt it is the first."""
    device = machine.sys / "dev/block" / mount.number
    if not device.exists():  # btrfs numbers its own
        device = machine.sys / "class/block" / mount.source.rpartition("/")[2]
    if not device.exists():
        return None
    device = device.resolve()
    while slaves := sorted((device / "slaves").glob("*")):
        device = slaves[0].resolve()
    if (device / "partition").exists():
        device = device.parent
    model = text(device / "device/model") or text(device / "device/name") or ""
    discards = (text(device / "queue/discard_max_bytes") or "0") != "0"
    return Disk(device, device.name, _kind(device), model, discards)


def _kind(device: Path) -> str:
    if device.name.startswith("mmcblk"):
        return EMMC if text(device / "device/type") == "MMC" else SD
    if device.name.startswith("nvme"):
        return NVME
    if any(part.startswith("usb") for part in device.parts):
        return USB
    return DISK if text(device / "queue/rotational") == "1" else SSD
