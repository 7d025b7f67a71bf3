"""Which boards are on this machine's USB: those that run MicroPython, by USB ids, and those in BOOTSEL mode, by their drive.

A board in BOOTSEL mode is a USB drive RPI-RP2 (its INFO_UF2.TXT says so) that takes a UF2 file and restarts with it; picotool does the same
without a drive. The UF2 is checked first: right chip, all its blocks. No file is fetched from anywhere: the technician brings it.

Errors: BoardError, in words that say what to do."""

import shutil
import struct
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from serial.tools import list_ports

VENDOR, PRODUCT = 0x2E8A, 0x0005  # Raspberry Pi; MicroPython on the RP2040
_BOOT_PRODUCT = 0x0003  # the RP2040's own boot loader
_FAMILY_RP2040 = 0xE48BFF56
_FAMILY_FLAG = 0x2000
_UF2_BLOCK = 512
_UF2_MAX = 32 * 1024 * 1024
_BOARD_ID = "RPI-RP2"
_MOUNTS = Path("/proc/mounts")
_USB = Path("/sys/bus/usb/devices")
_DRIVE_S = 60.0  # a UF2 of 700 kB takes 5
_PICOTOOL_S = 120.0


class BoardError(Exception):
    """No board, or one that cannot be used; one line says what to do."""


class Board(NamedTuple):
    """A serial port, and the USB serial number of what is behind it ("" unknown)."""

    port: str
    serial: str


def running() -> list[Board]:
    """The boards that run MicroPython, by port."""
    found = [port for port in list_ports.comports() if (port.vid, port.pid) == (VENDOR, PRODUCT)]
    return sorted(Board(port.device, port.serial_number or "") for port in found)


def chosen(ports: Iterable[str], every: bool) -> list[Board]:
    """The boards that the technician means: the `ports` he named, `every` one, or the only one there is. BoardError otherwise."""
    named = list(ports)
    if named and every:
        raise BoardError("--port and --all: one or the other")
    if named:
        for port in named:
            if not Path(port).exists():
                raise BoardError(f"{port}: no such port")
        if len(set(named)) != len(named):
            raise BoardError("one port is named twice")
        known = {board.port: board for board in running()}
        return [known.get(port, Board(port, "")) for port in named]
    boards = running()
    if not boards:
        raise BoardError(_nothing())
    if len(boards) > 1 and not every:
        raise BoardError(f"{len(boards)} boards ({', '.join(board.port for board in boards)}): name one with --port, or take --all")
    return boards


def _nothing() -> str:
    if drives():
        return "the board is in BOOTSEL mode: give its MicroPython with --uf2 FILE"
    if in_bootsel():
        return "a board is in BOOTSEL mode, but its drive RPI-RP2 is not mounted: mount it, or install picotool; then --uf2 FILE"
    return "no board on USB: plug it in; a new one while its BOOTSEL button is held, with --uf2 FILE"


def drives(mounts: Path = _MOUNTS) -> list[Path]:
    """The mounted drives of boards in BOOTSEL mode."""
    places = []
    if mounts.exists():
        lines = [line.split() for line in mounts.read_text(errors="replace").splitlines()]
        places = [Path(words[1].replace("\\040", " ")) for words in lines if len(words) > 2 and words[2] in ("vfat", "msdos")]
    return [place for place in places if _is_rp2040(place)]


def _is_rp2040(place: Path) -> bool:
    try:
        return _BOARD_ID in (place / "INFO_UF2.TXT").read_text(errors="replace")
    except OSError:  # another drive, or one that is just going
        return False


def in_bootsel(devices: Path = _USB) -> int:
    """How many boards in BOOTSEL mode the kernel sees on USB, mounted or not."""
    count = 0
    for vendor in devices.glob("*/idVendor"):
        try:
            ids = vendor.read_text().strip(), (vendor.parent / "idProduct").read_text().strip()
        except OSError:  # it is just being pulled out
            continue
        count += ids == (f"{VENDOR:04x}", f"{_BOOT_PRODUCT:04x}")
    return count


def check_uf2(path: Path) -> bytes:
    """The content of a UF2 file for the RP2040, whole. BoardError if it is not one."""
    try:
        if path.stat().st_size > _UF2_MAX:
            raise BoardError(f"{path}: too large for a UF2 of MicroPython")
        content = path.read_bytes()
    except OSError as error:
        raise BoardError(f"{path}: {error.strerror}") from error
    count = len(content) // _UF2_BLOCK
    if not count or len(content) % _UF2_BLOCK:
        raise BoardError(f"{path}: no UF2 file, or a part of one")
    for index in range(count):
        block = content[index * _UF2_BLOCK : (index + 1) * _UF2_BLOCK]
        first, second, flags, _, size, number, of, family = struct.unpack_from("<8I", block)
        if (first, second) != (0x0A324655, 0x9E5D5157) or block[-4:] != struct.pack("<I", 0x0AB16F30) or size > 476:
            raise BoardError(f"{path}: block {index} is damaged, or this is no UF2 file")
        if number != index or of != count:
            raise BoardError(f"{path}: block {index} of {count} says it is {number} of {of}: a part of a file")
        if not flags & _FAMILY_FLAG or family != _FAMILY_RP2040:
            raise BoardError(f"{path}: not for the RP2040")
    return content


def install(path: Path, mounts: Path = _MOUNTS) -> int:
    """Gives the UF2 to every board in BOOTSEL mode and waits until each has taken it; returns how many. BoardError says what is missing."""
    content = check_uf2(path)
    places = drives(mounts)
    for place in places:
        _copy(content, place)
    if places:
        return len(places)
    waiting = in_bootsel()
    if waiting > 1:
        raise BoardError(f"{waiting} boards in BOOTSEL mode whose drives are not mounted: mount them, or plug in one at a time")
    if not waiting:
        raise BoardError("--uf2: no board in BOOTSEL mode: hold its BOOTSEL button while you plug it in")
    tool = shutil.which("picotool")
    if tool is None:
        raise BoardError(_nothing())
    try:
        done = subprocess.run([tool, "load", "-v", "-x", str(path)], capture_output=True, text=True, timeout=_PICOTOOL_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise BoardError(f"picotool did not end within {_PICOTOOL_S:.0f} s: pull the board out and try again") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise BoardError(f"picotool: {said[-1] if said else 'failed'}")
    return 1


def _copy(content: bytes, place: Path) -> None:
    """The drive vanishes by itself when the board has taken the last block: an error then is none."""
    problem: OSError | None = None
    try:
        with open(place / "micropython.uf2", "wb", buffering=0) as file:
            file.write(content)
    except OSError as error:
        problem = error
    until = time.monotonic() + _DRIVE_S
    while _is_rp2040(place):
        if time.monotonic() > until or problem is not None:
            reason = problem.strerror if problem is not None else "it is still in BOOTSEL mode"
            raise BoardError(f"{place}: the board did not take the UF2: {reason}")
        time.sleep(0.2)


def appeared(count: int, limit_s: float) -> int:
    """Waits until so many boards run MicroPython, at most `limit_s`; how many do."""
    until = time.monotonic() + limit_s
    while len(running()) < count and time.monotonic() < until:
        time.sleep(0.2)
    return len(running())
