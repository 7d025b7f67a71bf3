"""What is fitted in which truck: one row of the fleet's list (fleet.csv), or the command line's.

    truck,carsensor,cameras,head,gps,pps,inputs
    truck-001,1,front,usb,usb,yes,bookmark lid ignition
    truck-002,,front@1-1.2 rear@1-1.3,usb,ttyAMA0,no,

Only `truck` is needed; an empty cell and an absent column mean the default. `cameras`, separated by blanks: NAME (the only USB camera),
NAME@PORT (the USB camera at this port, as the kernel names it: `ls /sys/bus/usb/devices`), NAME=ADDRESS (an MJPEG stream, or a device).
`head`: usb or none. `gps`: usb, none, or the kernel's name of a serial port. `pps`: whether its pulse is wired to GPIO18 (yes, no).
`inputs`, separated by blanks: the switches that are wired to the Pi's pins (bookmark, lid, ignition: hardware.md).

All that is wrong in a list is found before anything is made, with the numbers of its lines.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fleet.provision_inputs import SWITCHES
from gateway.config import MOST_CAMERAS
from hub.accounts import check_trucks
from hub.errors import HubError

COLUMNS = ("truck", "carsensor", "cameras", "head", "gps", "pps", "inputs")
MOST_CARSENSOR = 999
_CAMERA = re.compile(r"(?P<name>[a-z0-9_-]{1,32})(?:@(?P<port>\d+-\d+(?:\.\d+)*)|=(?P<source>https?://\S+|/dev/\S+))?")
_TTY = re.compile(r"tty[A-Za-z]{1,8}\d{1,3}")


class BadPlan(ValueError):
    """What is wrong with a row, or with a list: one line each in `lines`."""

    def __init__(self, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


class Camera(NamedTuple):
    """A camera: its USB port where it is not the only one, or its address (neither: the only USB camera)."""

    name: str
    port: str = ""
    source: str = ""


class Plan(NamedTuple):
    """One truck. `gps`: "usb", "none" or a serial port; `where` is its row, for messages."""

    truck: str
    where: str = ""
    carsensor: int | None = None
    cameras: tuple[Camera, ...] = ()
    head: bool = True
    gps: str = "usb"
    pps: bool = False
    inputs: tuple[str, ...] = ()


def plan(cells: Mapping[str, str], where: str = "") -> Plan:
    """The truck of a row of text; raises BadPlan with all that is wrong with it."""
    wrong: list[str] = []

    def take(name: str, default: str) -> str:
        return cells.get(name, "").strip() or default

    truck = take("truck", "")
    try:
        check_trucks([truck])
    except HubError as error:
        wrong.append(str(error) if truck else "no truck")
    number = take("carsensor", "")
    if number and not (number.isascii() and number.isdecimal() and int(number) <= MOST_CARSENSOR):
        wrong.append(f"carsensor {number!r} is not a number from 0 to {MOST_CARSENSOR}")
        number = ""
    cameras = _cameras(take("cameras", ""), wrong)
    head, gps, pps = take("head", "usb"), take("gps", "usb"), take("pps", "no")
    if head not in ("usb", "none"):
        wrong.append(f"head {head!r} is not usb or none")
    if gps not in ("usb", "none") and not _TTY.fullmatch(gps):
        wrong.append(f"gps {gps!r} is not usb, none or a serial port such as ttyAMA0")
    if pps not in ("yes", "no"):
        wrong.append(f"pps {pps!r} is not yes or no")
    if pps == "yes" and gps == "none":
        wrong.append("pps without gps: gpsd says which second a pulse begins")
    inputs = take("inputs", "").split()
    wrong += [f"input {one!r} is not one of {', '.join(SWITCHES)}" for one in inputs if one not in SWITCHES]
    if len(set(inputs)) < len(inputs):
        wrong.append(f"an input stands twice: {' '.join(inputs)}")
    if wrong:
        raise BadPlan(*wrong)
    fitted = tuple(name for name in SWITCHES if name in inputs)
    return Plan(truck, where or truck, int(number) if number else None, cameras, head == "usb", gps, pps == "yes", fitted)


def _cameras(text: str, wrong: list[str]) -> tuple[Camera, ...]:
    cameras = []
    for one in text.split():
        found = _CAMERA.fullmatch(one)
        if found is None:
            wrong.append(f"camera {one!r} is not NAME, NAME@USB-PORT or NAME=ADDRESS")
        else:
            cameras.append(Camera(found["name"], found["port"] or "", found["source"] or ""))
    if len(cameras) > MOST_CAMERAS:
        wrong.append(f"{len(cameras)} cameras, not up to {MOST_CAMERAS}")
    for what, said in (
        ("name", [camera.name for camera in cameras]),
        ("place", [camera.port or camera.source for camera in cameras if camera.port or camera.source]),
    ):
        wrong += [f"two cameras of one {what}: {one}" for one in sorted({one for one in said if said.count(one) > 1})]
    usb = [camera for camera in cameras if not camera.source]
    if len(usb) > 1 and (bare := [camera.name for camera in usb if not camera.port]):
        wrong.append(f"camera {bare[0]}: with {len(usb)} USB cameras each needs its port, as {bare[0]}@1-1.2")
    return tuple(cameras)


def read_fleet(path: Path) -> list[Plan]:
    """The trucks of a list; raises BadPlan with every line that is wrong, and OSError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadPlan(f"{path}: no CSV file in UTF-8: {error}") from error
    rows = [(number, row) for number, row in rows if any(row)]
    if not rows:
        raise BadPlan(f"{path}: empty; its first line names the columns: {','.join(COLUMNS)}")
    first, columns = rows[0]
    _check_columns(f"{path}:{first}", columns)
    plans: list[Plan] = []
    wrong: list[str] = []
    for number, row in rows[1:]:
        where = f"{path}:{number}"
        if len(row) != len(columns):
            wrong.append(f"{where}: {len(row)} cells, the first line has {len(columns)} columns")
            continue
        try:
            plans.append(plan(dict(zip(columns, row, strict=True)), where))
        except BadPlan as error:
            wrong += [f"{where}: {line}" for line in error.lines]
    wrong += _twice(plans)
    if not plans and not wrong:
        wrong.append(f"{path}: no trucks")
    if wrong:
        raise BadPlan(*wrong)
    return plans


def _check_columns(where: str, columns: Sequence[str]) -> None:
    if unknown := [name for name in columns if name not in COLUMNS]:
        raise BadPlan(f"{where}: no column {unknown[0]!r}; there are {', '.join(COLUMNS)}")
    if "truck" not in columns or len(set(columns)) < len(columns):
        raise BadPlan(f"{where}: the column truck is needed, and each column once")


def _twice(plans: Sequence[Plan]) -> list[str]:
    """Trucks, and numbers of the first fleet, that stand in the list more than once."""
    wrong = []
    seen: dict[str, str] = {}
    for one in plans:
        for said in (one.truck, *([f"carsensor {one.carsensor}"] if one.carsensor is not None else [])):
            if said in seen:
                wrong.append(f"{one.where}: {said} stands in line {seen[said].rpartition(':')[2]} already")
            seen.setdefault(said, one.where)
    return wrong
