"""What a truck needs to update its head over the running link: the key of the unit that is in it, found by the passports that
`cruisers flash` wrote, and the public keys whose images are trusted.

A truck whose head has no passport yet gets neither key of a unit nor refusal: it is provisioned again when the head is flashed."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fleet.passport import Folder, Passport, PassportError, fingerprint
from fleet.provision_plan import BadPlan, Plan
from gateway.head_image import ImageError, public_key

UNIT_KEY = "etc/cruisers/unit.key"
MOST_IMAGE_KEYS = 4  # one, and its successors
IMAGE_KEYS = ("etc/cruisers/image-key.pem", *(f"etc/cruisers/image-key-{number}.pem" for number in range(2, MOST_IMAGE_KEYS + 1)))
_PASSPORT = re.compile(r"[0-9a-f]{8,64}\.json")


class Keys(NamedTuple):
    """For one truck: the unit in it ("": none is known) with its key, and the keys of images (PEM)."""

    unit: str = ""
    unit_key: bytes = b""
    image_keys: tuple[bytes, ...] = ()


NO_KEYS = Keys()


def default_passports() -> Path:
    """Where `cruisers flash` writes passports unless told otherwise."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "cruisers" / "units"


def keys(plans: Sequence[Plan], passports: Path | None, image_keys: Sequence[Path]) -> dict[str, Keys]:
    """{truck: its keys} of those trucks that have a head; raises BadPlan with all that is wrong, and OSError. `passports` None: the default
    folder, which may be missing."""
    trusted = _image_keys(image_keys)
    with_head = [plan for plan in plans if plan.head]
    if passports is not None and not passports.is_dir():
        raise BadPlan(f"--passports {passports}: no such folder")
    folder = passports or default_passports()
    named = _named(folder) if with_head else {}
    found, wrong = {}, []
    for plan in with_head:
        units = named.get(plan.truck, [])
        if len(units) > 1:
            both = ", ".join(f"{one.unit}.json" for one in units)
            wrong.append(f"{plan.where}: {len(units)} passports in {folder} name {plan.truck}: {both}; move away those not in it")
            continue
        try:
            found[plan.truck] = Keys(*(_unit(folder, units[0]) if units else ("", b"")), trusted)
        except PassportError as error:
            wrong.append(f"{plan.where}: {error}")
    if wrong:
        raise BadPlan(*wrong)
    return found


def _named(folder: Path) -> dict[str, list[Passport]]:
    """{truck: the passports that name it}; raises BadPlan for one that cannot be read: it might be anyone's."""
    named: dict[str, list[Passport]] = {}
    for path in sorted(folder.glob("*.json")):
        if _PASSPORT.fullmatch(path.name) is None:
            continue
        try:
            passport = Folder(folder).passport(path.stem)
        except PassportError as error:
            raise BadPlan(str(error)) from error
        if passport is not None:
            named.setdefault(passport.truck, []).append(passport)
    return named


def _unit(folder: Path, passport: Passport) -> tuple[str, bytes]:
    """The unit and its key; raises PassportError."""
    key = Folder(folder).key(passport.unit)
    if key is None:
        raise PassportError(f"{folder / passport.unit}.key is missing, its passport is there")
    if fingerprint(key) != passport.key_fingerprint:
        raise PassportError(f"{folder / passport.unit}.key is not the key of its passport")
    return passport.unit, key


def _image_keys(paths: Sequence[Path]) -> tuple[bytes, ...]:
    if len(paths) > MOST_IMAGE_KEYS:
        raise BadPlan(f"{len(paths)} times --image-key, not up to {MOST_IMAGE_KEYS}")
    found = []
    for path in paths:
        try:
            public_key(path)
        except ImageError as error:  # a private key, too: it does not belong on a truck
            raise BadPlan(f"--image-key {error}") from error
        found.append(path.read_bytes())
    return tuple(found)
