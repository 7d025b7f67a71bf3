"""The files of one truck's Pi: what stands where, and with which mode; and the `install.sh` that puts them there.

A bundle is a folder: `files/` as the Pi's tree from its root, `install.sh`, and SHA256SUMS over all of it, written last: a folder that was
copied in part is refused by `install.sh`. Settings that a city's trucks share (images, depots, link rules, ...) come from a base: a
truck.toml without what is written here (OWN). Its [[cameras]] give settings to cameras of the same name.
"""

import hashlib
import tempfile
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from fleet import provision_inputs
from fleet.provision_head import IMAGE_KEYS, NO_KEYS, UNIT_KEY, Keys
from fleet.provision_plan import BadPlan, Camera, Plan
from fleet.provision_toml import to_toml
from gateway.config import ConfigError, load

# What the units know (fleet/units): these are no settings.
SPOOL, LIVE_SOCKET = "/var/lib/cruisers/spool", "/run/cruisers/live.sock"
TRUCK_TOML, CA_FILE, PASSWORD_FILE = "etc/cruisers/truck.toml", "etc/cruisers/ca.pem", "etc/cruisers/hub.password"
HEAD_PORT, GPS_PORT = "/dev/cruisers-head", "/dev/cruisers-gps"
OWN = ("name", "spool", "live_socket", "hub", "head", "gpsd")

PLAIN, SECRET, PROGRAM = 0o644, 0o600, 0o755
CAMERA = {"width": 1920, "height": 1080, "fps": 30.0}  # of a USB camera, where the base says nothing: a device's own is mostly 640 x 480

UNITS = "etc/systemd/system"
ALWAYS = {f"{UNITS}/cruisers-{duty}.service": f"cruisers-{duty}.service" for duty in ("recorder", "uplink", "sweeper")}
ALWAYS["etc/sysusers.d/cruisers.conf"] = "sysusers.conf"
WITH_GPSD = {
    f"{UNITS}/gpsd.service.d/cruisers.conf": "gpsd.service.conf",
    "etc/default/gpsd": "gpsd.default",
    "etc/chrony/conf.d/cruisers.conf": "chrony.conf",
    f"{UNITS}/chrony.service.d/cruisers.conf": "chrony.service.conf",
}
WITH_PPS = {"etc/cruisers/chrony-pps.conf": "chrony-pps.conf"}
HEAD_UPDATE = tuple(f"cruisers-head-update.{kind}" for kind in ("service", "path", "timer"))
WITH_HEAD = {f"{UNITS}/{name}": name for name in HEAD_UPDATE}
WITH_HEAD_WANTS = (f"{UNITS}/paths.target.wants/{HEAD_UPDATE[1]}", f"{UNITS}/timers.target.wants/{HEAD_UPDATE[2]}")
DEBIANS = ("etc/default/gpsd",)  # not ours to remove
RULES = "etc/udev/rules.d/70-cruisers.rules"
PPS_LINE = "dtoverlay=pps-gpio,gpiopin=18"

# USB ids: a Pico with MicroPython (its port's mpconfigport.h), u-blox generation 8 and 9.
HEAD_USB = 'ATTRS{idVendor}=="2e8a", ATTRS{idProduct}=="0005"'
GPS_USB = 'ATTRS{idVendor}=="1546", ATTRS{idProduct}=="01a[89]"'


class File(NamedTuple):
    """Mode and content of a file."""

    mode: int
    content: bytes


class Hub(NamedTuple):
    """Where the trucks find the hub, and the certificate (PEM) of its authority."""

    domain: str
    host: str
    port: int
    ca: bytes


def read_base(path: Path) -> dict[str, Any]:
    """The settings that trucks share; raises BadPlan, OSError."""
    try:
        base = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadPlan(f"{path}: {error}") from error
    if taken := [name for name in OWN if name in base]:
        raise BadPlan(f"{path}: {', '.join(taken)}: written for each truck, take it out of the base")
    return base


def truck_toml(plan: Plan, hub: Hub, base: Mapping[str, Any], keys: Keys) -> bytes:
    """The truck's configuration, as gateway/config.py reads it; raises BadPlan with the row where it refuses."""
    table: dict[str, Any] = {
        "name": plan.truck,
        "spool": SPOOL,
        "live_socket": LIVE_SOCKET,
        "hub": {"domain": hub.domain, "host": hub.host, "port": hub.port, "ca_file": f"/{CA_FILE}", "password_file": f"/{PASSWORD_FILE}"},
        **base,
    }
    if plan.head:
        table["head"] = {"port": HEAD_PORT} | ({"unit_key": f"/{UNIT_KEY}"} if keys.unit_key else {})
        if keys.image_keys:
            table["head"]["image_keys"] = [f"/{path}" for path in IMAGE_KEYS[: len(keys.image_keys)]]
    if plan.gps != "none":
        table["gpsd"] = {"device": GPS_PORT}
    try:
        table["cameras"] = [_camera(camera, base) for camera in plan.cameras]
        inputs = provision_inputs.table(plan.inputs, table.pop("inputs", {}))
        if inputs is not None:
            table["inputs"] = inputs
        if plan.carsensor is not None:
            table["uplink"] = {**base.get("uplink", {}), "carsensor": plan.carsensor}
        text = to_toml(table)
    except (TypeError, ValueError, AttributeError) as error:
        raise BadPlan(f"{plan.where}: the base: {error}") from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "truck.toml"
        path.write_text(text, "utf-8")
        try:
            load(path)
        except ConfigError as error:
            raise BadPlan(f"{plan.where}: {str(error).removeprefix(f'{path}: ')}") from error
    return text.encode()


def _camera(camera: Camera, base: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = next((one for one in base.get("cameras", []) if one.get("name") == camera.name), {})
    source = camera.source or f"/dev/cruisers-camera-{camera.name}"
    defaults = CAMERA if source.startswith("/dev/") and not {"width", "height"} & set(settings) else {}
    return {**defaults, **settings, "name": camera.name, "source": source}


def rules(plan: Plan) -> str:
    """The udev rules that give head, receiver and cameras their names."""
    head = gps = "# none"
    if plan.head:
        head = f'{HEAD_USB}, ENV{{ID_MM_DEVICE_IGNORE}}="1"\nSUBSYSTEM=="tty", {HEAD_USB}, SYMLINK+="cruisers-head"'
    if plan.gps == "usb":
        gps = f'{GPS_USB}, ENV{{ID_MM_DEVICE_IGNORE}}="1"\nSUBSYSTEM=="tty", {GPS_USB}, SYMLINK+="cruisers-gps"'
    elif plan.gps != "none":
        gps = f'SUBSYSTEM=="tty", KERNEL=="{plan.gps}", ENV{{ID_MM_DEVICE_IGNORE}}="1", SYMLINK+="cruisers-gps"'
    cameras = [
        # A camera has a second device for its metadata: index 1.
        f'SUBSYSTEM=="video4linux", ATTR{{index}}=="0", SUBSYSTEMS=="usb"{f", KERNELS=={_quoted(camera.port)}" if camera.port else ""}, '
        f'SYMLINK+="cruisers-camera-{camera.name}"'
        for camera in plan.cameras
        if not camera.source
    ]
    return _filled("70-cruisers.rules.template", TRUCK=plan.truck, HEAD=head, GPS=gps, CAMERAS="\n".join(cameras) or "# none")


def bundle(plan: Plan, hub: Hub, base: Mapping[str, Any], password: bytes, keys: Keys = NO_KEYS) -> dict[str, File]:
    """All files of the truck's folder, by path; raises BadPlan."""
    used = {
        **ALWAYS,
        **(WITH_HEAD if plan.head else {}),
        **(WITH_GPSD if plan.gps != "none" else {}),
        **(WITH_PPS if plan.pps else {}),
    }
    tree = {path: File(PLAIN, _unit(name).encode()) for path, name in used.items()}
    tree[RULES] = File(PLAIN, rules(plan).encode())
    tree[CA_FILE] = File(PLAIN, hub.ca)
    tree[TRUCK_TOML] = File(PLAIN, truck_toml(plan, hub, base, keys))
    if keys.unit_key:
        tree[UNIT_KEY] = File(SECRET, keys.unit_key)
    tree.update({path: File(PLAIN, key) for path, key in zip(IMAGE_KEYS, keys.image_keys, strict=False)})
    tree[PASSWORD_FILE] = File(SECRET, password)
    files = {f"files/{path}": file for path, file in tree.items()}
    files["install.sh"] = File(PROGRAM, _install(plan, tree).encode())
    sums = "".join(f"{hashlib.sha256(file.content).hexdigest()}  {path}\n" for path, file in sorted(files.items()))
    files["SHA256SUMS"] = File(PLAIN, sums.encode())
    return files


def _install(plan: Plan, tree: Mapping[str, File]) -> str:
    optional = {*WITH_GPSD, *WITH_PPS, *WITH_HEAD, UNIT_KEY, *IMAGE_KEYS, *(() if plan.head else WITH_HEAD_WANTS)}
    absent = sorted((optional - set(DEBIANS)) - set(tree))
    boot = [*([PPS_LINE] if plan.pps else []), *(provision_inputs.overlay(name) for name in plan.inputs)]
    return _filled(
        "install.sh.template",
        TRUCK=plan.truck,
        GPSD="yes" if plan.gps != "none" else "no",
        HEAD="yes" if plan.head else "no",
        PUTS="\n".join(f'  "$1" 0{file.mode:o} {path}' for path, file in sorted(tree.items())),
        DROPS="\n".join(f'  "$1" {path}' for path in absent) or "  :",
        BOOT="\n".join(boot),
    )


def _unit(name: str) -> str:
    return resources.files("fleet").joinpath("units", name).read_text("utf-8")


def _filled(template: str, **words: str) -> str:
    text = _unit(template)
    for name, word in words.items():
        text = text.replace(f"@{name}@", word)
    return text


def _quoted(text: str) -> str:
    return f'"{text}"'
