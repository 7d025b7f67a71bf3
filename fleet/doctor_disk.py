"""The disk of the spool: what it is, how it is mounted, what is free, how worn it is."""

import os

from fleet import doctor_wear
from fleet.doctor_finding import Finding, green, red, say, yellow
from fleet.doctor_mount import DISK, SD, Disk, Mount, disk_of, mount_of
from fleet.doctor_visit import Visit
from gateway.sweeper import FLOOR_PART

NOT_A_DISK = ("tmpfs", "ramfs", "overlay")
NO_JOURNAL = ("vfat", "exfat", "msdos", "ext2", "ntfs", "ntfs3", "fuseblk")
NETWORK = ("nfs", "nfs4", "cifs", "9p", "fuse.sshfs")
GB = 1e9


def check(visit: Visit) -> list[Finding]:
    """Everything of the disk. Raises OSError."""
    if not visit.spool.is_dir():
        return [red("disk_no_spool", say("do_mount"), spool=str(visit.spool))]
    mount = mount_of(visit.machine, visit.spool)
    if mount is None:
        return [red("disk_no_mount", say("do_mount"), spool=str(visit.spool)), *room(visit)]
    disk = disk_of(visit.machine, mount)
    found = [*kind(mount, disk), *room(visit), *options(visit, mount, disk)]
    return [*found, doctor_wear.check(visit.machine, disk)] if disk is not None else found


def kind(mount: Mount, disk: Disk | None) -> list[Finding]:
    """What it is."""
    if mount.type in NOT_A_DISK or mount.type in NETWORK:
        return [red("disk_not_lasting", say("do_mount"), type=mount.type, point=mount.point)]
    if disk is None:
        return [yellow("disk_unknown", say("do_ssd"), source=mount.source, type=mount.type)]
    values = {"kind": disk.kind, "disk": disk.name, "model": disk.model or "-", "type": mount.type}
    if disk.kind == SD:
        return [yellow("disk_is", say("do_ssd"), **values)]
    if disk.kind == DISK:
        return [yellow("disk_is", say("do_no_platters"), **values)]
    return [green("disk_is", **values)]


def room(visit: Visit) -> list[Finding]:
    """What is free, and whether what the spool may take fits at all."""
    truck, disk = visit.truck, os.statvfs(visit.spool)
    free, size = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    values = {"free": free / GB, "size": size / GB, "reserve": truck.free_reserve_bytes / GB}
    if free < truck.free_reserve_bytes // FLOOR_PART:
        found = red("disk_full", say("do_free"), **values)
    elif free < truck.free_reserve_bytes:
        found = yellow("disk_low", say("do_free"), **values)
    else:
        found = green("disk_free", **values)
    wanted = truck.spool_quota_bytes + truck.free_reserve_bytes + truck.thinning_reserve_bytes
    if wanted > size:
        return [found, yellow("disk_quota", say("do_quota"), quota=truck.spool_quota_bytes / GB, wanted=wanted / GB, size=size / GB)]
    return [found]


def options(visit: Visit, mount: Mount, disk: Disk | None) -> list[Finding]:
    """How it is mounted."""
    values = {"point": mount.point}
    found = []
    if mount.has("ro"):
        found.append(red("mount_read_only", say("do_read_only"), **values))
    if mount.has("nobarrier", "barrier=0"):
        found.append(red("mount_no_barrier", say("do_options", options="barrier"), **values))
    if mount.type in NO_JOURNAL:
        found.append(red("mount_no_journal", say("do_ext4"), type=mount.type, **values))
    if mount.has("data=journal", "data=writeback"):
        found.append(yellow("mount_data", say("do_options", options="data=ordered"), option=_data(mount), **values))
    if not mount.has("noatime") and mount.type not in NOT_A_DISK:
        found.append(yellow("mount_atime", say("do_options", options="noatime"), **values))
    if disk is not None and disk.discards and not mount.has("discard", "discard=async") and not _trimmed(visit):
        found.append(yellow("mount_no_discard", say("do_fstrim"), disk=disk.name))
    return found or [green("mount_well", options=",".join(sorted(mount.options)), **values)]


def _data(mount: Mount) -> str:
    return next(option for option in sorted(mount.options) if option.startswith("data="))


def _trimmed(visit: Visit) -> bool:
    done = visit.machine.run("systemctl", "is-enabled", "fstrim.timer")
    return done is not None and done.out.strip() == "enabled"
