"""Power: under-voltage and throttling of a Raspberry Pi.

The firmware keeps 20 bits: what is so now (0 to 3) and what has been since the start (16 to 19). Asked are `vcgencmd get_throttled`,
else the file that older kernels of Raspberry Pi OS have in /sys; beside it the alarm of the kernel's voltage driver (`rpi_volt`), which
tells of the last 2 s. That driver clears the bits which the file shows, so behind the file "since the start" is no more than what it
happened to see."""

from pathlib import Path
from typing import NamedTuple

from fleet.doctor_finding import Finding, green, grey, red, say, yellow
from fleet.doctor_machine import Machine, text
from fleet.doctor_visit import Visit

THROTTLED = Path("devices/platform/soc/soc:firmware/get_throttled")
UNDER_VOLTAGE, CAPPED, THROTTLING, SOFT_LIMIT = (1 << bit for bit in range(4))
SLOWED = CAPPED | THROTTLING | SOFT_LIMIT
SINCE_START = 16  # the same bits, so much higher


class Throttled(NamedTuple):
    """The firmware's bits, and who said so."""

    bits: int
    source: str


def check(visit: Visit) -> list[Finding]:
    """Supply, and speed."""
    told, alarm = throttled(visit.machine), alarmed(visit.machine)
    if told is None and alarm is None:
        return [grey("power_unknown")]
    bits, source = (told.bits, f"0x{told.bits:x}, {told.source}") if told is not None else (0, "rpi_volt")
    before = bits >> SINCE_START
    if bits & UNDER_VOLTAGE or alarm:
        supply = red("power_low_now", say("do_supply"), source=source)
    elif before & UNDER_VOLTAGE:
        supply = yellow("power_low_before", say("do_supply"), source=source)
    else:
        supply = green("power_well", source=source)
    if told is None:
        return [supply]
    if bits & SLOWED:
        return [supply, yellow("power_slow_now", say("do_cool"))]
    if before & SLOWED and not before & UNDER_VOLTAGE:
        return [supply, yellow("power_slow_before", say("do_cool"))]
    return [supply, green("power_speed")]


def throttled(machine: Machine) -> Throttled | None:
    """The bits; None on a machine that has none. Raises ValueError where the answer is none."""
    done = machine.run("vcgencmd", "get_throttled")
    if done is not None and done.code == 0:
        return Throttled(int(done.out.strip().removeprefix("throttled="), 16), "vcgencmd")
    said = text(machine.sys / THROTTLED)
    return None if said is None else Throttled(int(said, 16), "sysfs")


def alarmed(machine: Machine) -> bool | None:
    """Whether the kernel has seen under-voltage in the last 2 s; None where it does not look."""
    for device in sorted((machine.sys / "class/hwmon").glob("hwmon*")):
        if text(device / "name") == "rpi_volt":
            said = text(device / "in0_lcrit_alarm")
            return None if said is None else said != "0"
    return None
