"""How worn a disk is: `smartctl -j` for NVMe, SATA and what stands behind a USB bridge, the kernel's own file for eMMC. An SD card does
not say."""

import json
import re
from typing import Any, NamedTuple

from fleet.doctor_finding import Finding, green, grey, red, say, yellow
from fleet.doctor_machine import Machine, text
from fleet.doctor_mount import EMMC, SD, Disk

WORN, WORN_OUT = 80, 95  # % of the life that the maker promises
NO_DEVICE = 0b10  # of smartctl's exit code: the device could not be opened, or does not answer (smartctl(8))
# Attributes whose normalised value falls from 100 to 0 as the flash wears; makers number them differently, smartmontools names them.
LIFE = re.compile("media_wearout|wear_level|ssd_life_left|life_?time_remain|percent_lifetime|remaining_life", re.IGNORECASE)


class Wear(NamedTuple):
    """`used` in % (None: not told); `failing`: the disk says so itself, why in its words ("" for no)."""

    used: float | None
    failing: str = ""


def check(machine: Machine, disk: Disk) -> Finding:
    """The wear of a disk. Raises TimeoutError, OSError."""
    if disk.kind == SD:
        return grey("wear_sd", say("do_ssd"))
    if disk.kind == EMMC:
        wear = emmc(text(disk.folder / "device/life_time") or "", text(disk.folder / "device/pre_eol_info") or "")
        return _judged(wear, disk)
    done = machine.run("smartctl", "-j", "-a", f"/dev/{disk.name}")
    if done is None:
        return grey("wear_no_smartctl", say("do_smartctl"))
    try:
        said = json.loads(done.out)
    except ValueError:
        return grey("wear_no_answer", say("do_root"), disk=disk.name, error=done.said)
    if done.code & NO_DEVICE:
        messages = [one.get("string", "") for one in said.get("smartctl", {}).get("messages", [])]
        return grey("wear_no_answer", say("do_root"), disk=disk.name, error="; ".join(messages) or done.said)
    return _judged(smart(said), disk)


def _judged(wear: Wear, disk: Disk) -> Finding:
    if wear.failing:
        return red("wear_failing", say("do_replace_now"), disk=disk.name, error=wear.failing)
    if wear.used is None:
        return grey("wear_untold", disk=disk.name)
    if wear.used >= WORN_OUT:
        return red("wear_used", say("do_replace_now"), disk=disk.name, used=wear.used)
    if wear.used >= WORN:
        return yellow("wear_used", say("do_replace"), disk=disk.name, used=wear.used)
    return green("wear_used", disk=disk.name, used=wear.used)


def smart(said: dict[str, Any]) -> Wear:
    """What smartctl's JSON says. Pure."""
    failing = "" if said.get("smart_status", {}).get("passed", True) else "SMART: FAILED"
    nvme = said.get("nvme_smart_health_information_log")
    if isinstance(nvme, dict):
        if warning := nvme.get("critical_warning", 0):
            failing = f"critical warning 0x{warning:x}"
        return Wear(nvme.get("percentage_used"), failing)
    used = said.get("endurance_used", {}).get("current_percent")
    if used is None:
        rows = said.get("ata_smart_attributes", {}).get("table", [])
        left = [row["value"] for row in rows if LIFE.search(row.get("name", "")) and 0 <= row.get("value", -1) <= 100]
        used = 100 - min(left) if left else None
    return Wear(used, failing)


def emmc(life_time: str, pre_eol: str) -> Wear:
    """What `life_time` ("0x02 0x01": steps of 10 %, two kinds of cells) and `pre_eol_info` say (JEDEC JESD84-B51, EXT_CSD 267 to
    269). Pure."""
    steps = [int(step, 16) for step in life_time.split()]
    known = [step for step in steps if step]
    urgent = "pre_eol_info 0x03" if pre_eol and int(pre_eol, 16) == 3 else ""
    return Wear(10.0 * max(known) if known else None, urgent)
