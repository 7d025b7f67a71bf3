"""The truck's switches on the Pi's pins, for those that are fitted: `[inputs]` of its configuration, and the lines of config.txt that make
the kernel's gpio-keys of them. Pins and wires: hardware.md, which a test holds to this table.

Each line makes an input device of its own; all of them close to ground, so a pin that nobody wired is a switch that is never pressed: an
ignition that is off for ever. Hence none is written that the row does not name."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Switch(NamedTuple):
    """A switch: its key in `[inputs]`, its pin (BCM number), its key code (linux/input-event-codes.h: KEY_PROG1 to 3 do nothing by
    themselves)."""

    key: str
    gpio: int
    code: int


SWITCHES = {"bookmark": Switch("bookmark", 17, 148), "lid": Switch("opened", 27, 149), "ignition": Switch("ignition", 22, 202)}


def overlay(name: str) -> str:
    """The line of config.txt (raspberrypi/firmware, boot/overlays/README: gpio-key)."""
    switch = SWITCHES[name]
    return f"dtoverlay=gpio-key,gpio={switch.gpio},active_low=1,gpio_pull=up,keycode={switch.code},label={name}"


def device(name: str) -> str:
    """The input device that it becomes: the overlay names its node by the pin in hexadecimal."""
    return f"/dev/input/by-path/platform-button@{SWITCHES[name].gpio:x}-event"


def table(names: Sequence[str], base: Mapping[str, Any]) -> dict[str, Any] | None:
    """`[inputs]` for the switches `names`: theirs go before what the base says, its `ignition_seconds` stays. None where there is no
    `[inputs]` to write."""
    if not names:
        return dict(base) if "devices" in base else None
    kept = {name: value for name, value in base.items() if name not in ("devices", *(switch.key for switch in SWITCHES.values()))}
    return {"devices": [device(name) for name in names], **{SWITCHES[name].key: SWITCHES[name].code for name in names}, **kept}
