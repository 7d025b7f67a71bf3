"""The pictures of docs/doctor.md: what `cruisers doctor` prints for a truck with some troubles, in both languages. The findings are made
up, the words and the layout are the program's.

    PYTHONPATH=tests/support python -m doctor_scene      writes them into the document
"""

import os
import re
from pathlib import Path

from rich.console import Console

from fleet import doctor_head, doctor_receiver, doctor_sensors
from fleet.doctor import Result
from fleet.doctor_finding import Finding, green, red, say, yellow
from fleet.doctor_head_live import Heard
from fleet.doctor_link import judged as link
from fleet.doctor_report import table
from fleet.tool_doctor import SPARE, WIDTH

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "doctor.md"
HELLO = {"firmware": "6", "runtime": "micropython 1.29.0 rp2", "unique_id": "e6614c311b7d4f2a", "reset_cause": "power-on"}
HEALTH = {"heap_free": 41_000, "uptime_s": 1500, "ring_dropped": 0, "longest_loop_us": 9_000}
FIX = {"mode": 3, "lat": 35.0, "lon": 139.0, "time": "2026-11-28T05:00:00.000Z", "eph": 1.6}
WELL = ("icm20948", "bmp390", "sht45", "opt3001", "as7331")
STATES = {name: {"state": "ok", "reason": ""} for name in WELL} | {"sps30": {"state": "failed", "reason": "time-out"}}
LINK = {"interface": "wwan0", "class": "metered", "why": "rule 2", "allows": ["packed", "readings", "requested"]}

_SCENE: dict[str, list[Finding]] = {
    "power": [yellow("power_low_before", say("do_supply"), source="0x50000, vcgencmd"), green("power_speed")],
    "disk": [
        green("disk_is", kind="USB", disk="sda", model="PSSD T7", type="ext4"),
        green("disk_free", free=402.7, size=983.4, reserve=1.0),
        yellow("mount_atime", say("do_options", options="noatime"), point="/var/lib/cruisers"),
        green("wear_used", disk="sda", used=7),
    ],
    "clock": [
        green("clock_recorder", source="gnss", error=0.31),
        green("chrony_follows", name="PPS", stratum="1", offset=0.002),
        green("rtc_there"),
    ],
    "head": [green("head_owned", port="/dev/cruisers-head"), *doctor_head.live(Heard(HELLO, HEALTH), "")],
    "sensors": doctor_sensors.judged(STATES),
    "receiver": doctor_receiver.judged(doctor_receiver.Heard("3.22", ["/dev/cruisers-gps"], FIX)),
    "camera": [red("camera_absent", say("do_camera"), name="front", source="/dev/video0"), yellow("images_none", say("do_camera"))],
    "hub": [
        green("hub_name", host="hub.cruisers.example", address="192.0.2.10"),
        yellow("hub_certificate", say("do_certificate_renew"), host="hub.cruisers.example", port=5222, version="TLSv1.3", days=9),
        green("hub_logged_in", account="fujisawa-007@cruisers.example"),
        green("hub_rights", nodes=16),
        green("hub_reads"),
        green("hub_takes", file=268.4, payload=250.0),
    ],
    "link": [link(LINK)],
    "spool": [
        green("process_runs", names="recorder, uplink, sweeper"),
        green("backlog", size=12.34, segments=771),
        green("quota_well", used=12.4, quota=200.0, segments=774),
    ],
}  # fmt: skip


def picture(language: str) -> str:
    """What the program prints."""
    results = [Result(name, findings, 0.1) for name, findings in _SCENE.items()]
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(width=WIDTH, record=True, file=nowhere)
        console.print(table("fujisawa-007", results, language), width=WIDTH - SPARE)
        return "\n".join(line.rstrip() for line in console.export_text().splitlines())


def block(document: str, language: str) -> re.Match[str]:
    """The picture in the document."""
    found = re.search(rf"(?<=<!-- picture {language} -->\n```text\n).*?(?=\n```)", document, re.DOTALL)
    assert found is not None, language
    return found


def main() -> None:
    """Writes both into the document."""
    text = DOCUMENT.read_text("utf-8")
    for language in ("en", "ja"):
        found = block(text, language)
        text = text[: found.start()] + picture(language) + text[found.end() :]
    DOCUMENT.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
