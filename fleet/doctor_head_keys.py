"""The files of the keys by which the head is updated (`[head]` unit_key and image_keys): there, readable, what they should be, and with the
rights that a key needs. All of it is yellow at worst: the truck records without."""

import os
import stat
from pathlib import Path

from fleet.doctor_finding import Finding, green, grey, say, yellow
from fleet.doctor_visit import Visit
from fleet.passport import KEY_BYTES
from gateway.config import Head
from gateway.head_image import ImageError, public_key


def check(visit: Visit) -> list[Finding]:
    """Those keys that the configuration names."""
    head = visit.truck.head
    if head is None or not (head.unit_key or head.image_keys):
        return []
    found = _unit_key(head.unit_key, visit.truck.hub.password_file) if head.unit_key else []
    found += [finding for path in head.image_keys if (finding := _image_key(Path(path))) is not None]
    return found or [_both(head)]


def _both(head: Head) -> Finding:
    if not head.unit_key:
        return grey("head_key_none", say("do_head_key"))
    if not head.image_keys:
        return grey("head_image_key_none", say("do_image_key"))
    return green("head_keys_well", count=len(head.image_keys))


def _unit_key(path: str, password_file: str) -> list[Finding]:
    """What is wrong with the unit's key: it is a secret of the same owner as the hub's password."""
    try:
        with open(path, "rb") as file:
            about = os.fstat(file.fileno())
            size = len(file.read(KEY_BYTES + 1))
    except OSError as error:
        return [_unreadable(path, error, "do_head_key")]
    mode = stat.S_IMODE(about.st_mode)
    found = []
    if size != KEY_BYTES:
        found.append(yellow("head_key_size", say("do_head_key"), path=path, bytes=KEY_BYTES))
    if mode & 0o077:
        found.append(yellow("head_key_open", say("do_password_mode", path=path), path=path, mode=f"{mode:04o}"))
    try:
        owner = os.stat(password_file).st_uid
    except OSError:  # the check of the hub tells it
        return found
    if owner != about.st_uid:
        found.append(yellow("head_key_owner", say("do_head_key_owner", path=path, other=password_file), path=path, other=password_file))
    return found


def _image_key(path: Path) -> Finding | None:
    """What is wrong with a key of images: everybody may read it, and nobody but its owner write it."""
    try:
        public_key(path)
        mode = stat.S_IMODE(path.stat().st_mode)
    except ImageError as error:
        return yellow("head_image_key_bad", say("do_image_key"), error=str(error))
    except OSError as error:
        return _unreadable(str(path), error, "do_image_key")
    if mode & 0o022:
        return yellow("head_image_key_open", say("do_image_key_mode", path=str(path)), path=str(path), mode=f"{mode:04o}")
    return None


def _unreadable(path: str, error: OSError, todo: str) -> Finding:
    what = "do_key_root" if isinstance(error, PermissionError) else todo
    return yellow("head_key_unreadable", say(what), path=path, error=error.strerror or str(error))
