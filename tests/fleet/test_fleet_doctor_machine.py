"""Power, disk and clock of a machine that is a tree of files, with commands of others as programs."""

import json
from pathlib import Path

import msgspec
import pytest
from doctor_machine import Trees, told
from fake_kernel import Kernel, utc
from gateway_recording import truck

from fleet import doctor_clock, doctor_disk, doctor_power, doctor_wear
from fleet.doctor_finding import GREEN, GREY, RED, YELLOW
from fleet.doctor_mount import Disk
from fleet.doctor_wear import Wear, emmc, smart
from gateway.config import Truck

ROOM = {"spool_quota_bytes": 1000, "free_reserve_bytes": 1000, "thinning_reserve_bytes": 0}  # little: this machine's disk has it


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    (tmp_path / "spool").mkdir()
    return Trees(tmp_path)


def small(folder: Path, **settings: object) -> Truck:
    return msgspec.structs.replace(truck(folder), **{**ROOM, **settings})


# --- power


@pytest.mark.parametrize(
    ("bits", "supply", "speed"),
    [
        ("0", ("power_well", GREEN), ("power_speed", GREEN)),
        ("50000", ("power_low_before", YELLOW), ("power_speed", GREEN)),
        ("50005", ("power_low_now", RED), ("power_slow_now", YELLOW)),
        ("80008", ("power_well", GREEN), ("power_slow_now", YELLOW)),
        ("e0000", ("power_well", GREEN), ("power_slow_before", YELLOW)),
    ],
)
@pytest.mark.parametrize("source", ["vcgencmd", "sysfs"])
def test_the_firmwares_bits_are_told(trees: Trees, bits: str, supply: tuple[str, str], speed: tuple[str, str], source: str) -> None:
    if source == "vcgencmd":
        trees.command("vcgencmd", f"throttled=0x{bits}\n")
    else:
        trees.command("vcgencmd", "VCHI initialization failed\n", code=255)
        trees.sys("devices/platform/soc/soc:firmware/get_throttled", bits)
    found = doctor_power.check(trees.visit(truck(trees.folder)))
    assert told(found) == dict([supply, speed])
    assert found[0].saw.values["source"] == f"0x{bits}, {source}"


def test_the_kernels_alarm_alone_tells_of_the_supply(trees: Trees) -> None:
    assert told(doctor_power.check(trees.visit(truck(trees.folder)))) == {"power_unknown": GREY}
    trees.sys("class/hwmon/hwmon0/name", "cpu_thermal")
    trees.sys("class/hwmon/hwmon1/name", "rpi_volt")
    for alarm, colour in (("0", {"power_well": GREEN}), ("1", {"power_low_now": RED})):
        trees.sys("class/hwmon/hwmon1/in0_lcrit_alarm", alarm)
        assert told(doctor_power.check(trees.visit(truck(trees.folder)))) == colour


# --- disk


def test_an_ssd_that_is_mounted_well_is_green(trees: Trees) -> None:
    trees.disk("sda", "8:1", partition="sda1", queue__rotational="0", device__model="KINGSTON", queue__discard_max_bytes="1024")
    trees.command("systemctl", "enabled\n")
    trees.command("smartctl", json.dumps({"smart_status": {"passed": True}, "endurance_used": {"current_percent": 12}}))
    found = doctor_disk.check(trees.visit(small(trees.folder)))
    assert told(found) == {"disk_is": GREEN, "disk_free": GREEN, "mount_well": GREEN, "wear_used": GREEN}
    assert found[0].saw.values == {"kind": "SSD", "disk": "sda", "model": "KINGSTON", "type": "ext4"}
    assert found[-1].saw.values["used"] == 12


@pytest.mark.parametrize(
    ("options", "kind", "more", "key", "colour"),
    [
        ("ro,noatime", "ext4", "ro", "mount_read_only", RED),
        ("rw,noatime", "ext4", "ro,errors=remount-ro", "mount_read_only", RED),
        ("rw,relatime", "ext4", "rw", "mount_atime", YELLOW),
        ("rw,noatime", "ext4", "rw,data=writeback", "mount_data", YELLOW),
        ("rw,noatime", "ext4", "rw,nobarrier", "mount_no_barrier", RED),
        ("rw,noatime", "vfat", "rw", "mount_no_journal", RED),
    ],
)
def test_a_mount_that_costs_data_or_life_is_told(trees: Trees, options: str, kind: str, more: str, key: str, colour: str) -> None:
    trees.disk("sda", "8:1", queue__rotational="0")
    trees.mount(options, kind, more)
    found = told(doctor_disk.check(trees.visit(small(trees.folder))))
    assert found[key] == colour and "mount_well" not in found


def test_a_disk_that_takes_discards_must_get_them_somehow(trees: Trees) -> None:
    trees.disk("nvme0n1", "8:1", partition="nvme0n1p1", queue__discard_max_bytes="1024", queue__rotational="0")
    assert told(doctor_disk.check(trees.visit(small(trees.folder))))["mount_no_discard"] == YELLOW
    trees.command("systemctl", "disabled\n", code=1)
    assert told(doctor_disk.check(trees.visit(small(trees.folder))))["mount_no_discard"] == YELLOW
    trees.mount(super_options="rw,discard")
    assert "mount_no_discard" not in told(doctor_disk.check(trees.visit(small(trees.folder))))


@pytest.mark.parametrize(
    ("name", "where", "files", "kind", "colour"),
    [
        ("mmcblk0", "platform/mmc0", {"device__type": "SD", "device__name": "SC64G"}, "SD", YELLOW),
        ("mmcblk1", "platform/mmc1", {"device__type": "MMC", "device__name": "A3A442"}, "eMMC", GREEN),
        ("sdb", "platform/usb2/2-1/host1", {"queue__rotational": "1"}, "USB", GREEN),
        ("sdc", "pci/host2", {"queue__rotational": "1"}, "HDD", YELLOW),
        ("nvme0n1", "pci/nvme", {"queue__rotational": "0"}, "NVMe", GREEN),
    ],
)
def test_what_the_disk_is_comes_from_the_kernel(trees: Trees, name: str, where: str, files: dict[str, str], kind: str, colour: str) -> None:
    trees.disk(name, "8:1", where, **files)
    found = doctor_disk.check(trees.visit(small(trees.folder)))
    assert (found[0].saw.values["kind"], found[0].colour) == (kind, colour)


def test_the_disk_below_a_mapper_is_found(trees: Trees) -> None:
    trees.disk("sda", "8:0", queue__rotational="0")
    trees.disk("dm-0", "8:1", "virtual")
    slave = trees.folder / "sys/devices/virtual/block/dm-0/slaves/sda"
    slave.parent.mkdir(parents=True)
    slave.symlink_to(trees.folder / "sys/devices/pci0000:00/host0/block/sda")
    assert doctor_disk.check(trees.visit(small(trees.folder)))[0].saw.values["disk"] == "sda"


def test_a_spool_in_memory_or_nowhere_is_red(trees: Trees) -> None:
    trees.mount(kind="tmpfs", number="0:44")
    assert told(doctor_disk.check(trees.visit(small(trees.folder))))["disk_not_lasting"] == RED
    gone = msgspec.structs.replace(small(trees.folder), spool=str(trees.folder / "nowhere"))
    assert told(doctor_disk.check(trees.visit(gone))) == {"disk_no_spool": RED}


def test_what_is_free_is_held_against_the_reserve_and_the_quota(trees: Trees) -> None:
    trees.disk("sda", "8:1", queue__rotational="0")
    for reserve, key, colour in ((10**15, "disk_full", RED), (1000, "disk_free", GREEN)):
        assert told(doctor_disk.room(trees.visit(small(trees.folder, free_reserve_bytes=reserve))))[key] == colour
    assert told(doctor_disk.room(trees.visit(small(trees.folder, spool_quota_bytes=10**15))))["disk_quota"] == YELLOW


# --- wear


@pytest.mark.parametrize(
    ("said", "wear"),
    [
        ({"smart_status": {"passed": True}, "nvme_smart_health_information_log": {"percentage_used": 83, "critical_warning": 0}}, Wear(83)),
        ({"nvme_smart_health_information_log": {"percentage_used": 3, "critical_warning": 4}}, Wear(3, "critical warning 0x4")),
        ({"smart_status": {"passed": False}}, Wear(None, "SMART: FAILED")),
        (
            {"ata_smart_attributes": {"table": [{"name": "Temperature_Celsius", "value": 30}, {"name": "SSD_Life_Left", "value": 96}]}},
            Wear(4),
        ),
        ({"ata_smart_attributes": {"table": [{"name": "Wear_Leveling_Count", "value": 98}]}}, Wear(2)),
        ({}, Wear(None)),
    ],
)
def test_smartctl_tells_the_wear(said: dict, wear: Wear) -> None:
    assert smart(said) == wear


def test_an_emmc_tells_its_wear_in_steps_of_ten(trees: Trees) -> None:
    assert emmc("0x02 0x01", "0x01") == Wear(20.0)
    assert emmc("0x00 0x00", "") == Wear(None)
    trees.disk("mmcblk0", "8:1", device__type="MMC", device__life_time="0x0b 0x01", device__pre_eol_info="0x03")
    assert told(doctor_disk.check(trees.visit(small(trees.folder))))["wear_failing"] == RED


@pytest.mark.parametrize(("used", "colour"), [(79, GREEN), (80, YELLOW), (95, RED), (140, RED)])
def test_a_worn_disk_is_told_before_it_dies(trees: Trees, used: int, colour: str) -> None:
    trees.command("smartctl", json.dumps({"nvme_smart_health_information_log": {"percentage_used": used}}))
    disk = Disk(trees.folder, "nvme0n1", "NVMe", "", False)
    assert told([doctor_wear.check(trees.machine, disk)]) == {"wear_used": colour}


def test_wear_that_cannot_be_asked_is_grey_with_what_to_do(trees: Trees) -> None:
    disk = Disk(trees.folder, "sda", "SSD", "", False)
    assert told([doctor_wear.check(trees.machine, disk)]) == {"wear_no_smartctl": GREY}
    refused = {"smartctl": {"messages": [{"string": "Smartctl open device: /dev/sda failed: Permission denied"}]}}
    trees.command("smartctl", json.dumps(refused), code=2)
    found = doctor_wear.check(trees.machine, disk)
    assert told([found]) == {"wear_no_answer": GREY} and "Permission denied" in found.saw.values["error"]
    trees.command("smartctl", "segmentation fault", code=139)
    assert told([doctor_wear.check(trees.machine, disk)]) == {"wear_no_answer": GREY}


# --- clock


PPS = "50505300,PPS,1,1792000000.1,-0.000000123,0.0,0.0,-5.1,0.0,0.02,0.000000001,0.00001,16.0,Normal\n"
LOST = "00000000,,0,0.0,0.000000000,0.0,0.0,0.0,0.0,0.0,1.0,1.0,0.0,Not synchronised\n"


@pytest.fixture
def kernel(trees: Trees, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel(monkeypatch, trees.folder)
    kernel.real_offset_ns = utc("2026-11-28T05:00:00") - kernel.boot_ns
    kernel.synchronised = True
    return kernel


def test_chrony_on_pps_and_a_right_rtc_are_green(trees: Trees, kernel: Kernel) -> None:
    trees.command("chronyc", PPS)
    trees.sys("class/rtc/rtc0/since_epoch", str(utc("2026-11-28T05:00:01") // 10**9))
    found = doctor_clock.check(trees.visit(truck(trees.folder)))
    assert told(found) == {"clock_kernel": GREEN, "chrony_follows": GREEN, "rtc_there": GREEN}
    assert found[1].saw.values["name"] == "PPS" and found[1].saw.values["offset"] == pytest.approx(0.000123)


def test_a_clock_that_nobody_keeps_is_told(trees: Trees, kernel: Kernel) -> None:
    kernel.synchronised = False
    found = doctor_clock.check(trees.visit(truck(trees.folder)))
    assert told(found) == {"clock_unsynchronised": YELLOW, "chrony_absent": YELLOW, "rtc_absent": GREY}
    trees.command("chronyc", LOST)
    assert "chrony_lost" in told(doctor_clock.check(trees.visit(truck(trees.folder))))
    trees.command("chronyc", "", code=1, err="506 Cannot talk to daemon\n")
    found = doctor_clock.check(trees.visit(truck(trees.folder)))
    assert found[1].saw.values["error"] == "506 Cannot talk to daemon"


def test_an_rtc_with_a_flat_battery_is_told(trees: Trees, kernel: Kernel) -> None:
    for date, key in (("1970-01-01", "rtc_wrong"), ("2026-11-27", "rtc_off"), ("2026-11-28T05:00:00", "rtc_there")):
        trees.sys("class/rtc/rtc0/since_epoch", str(utc(date) // 10**9))
        assert key in told(doctor_clock.check(trees.visit(truck(trees.folder)))), date
