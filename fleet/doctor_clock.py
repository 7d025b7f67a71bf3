"""Where the truck's time comes from: the recorder's own source, the kernel's clock and chrony behind it, the battery-backed clock."""

from fleet.doctor_finding import Finding, green, grey, red, say, yellow
from fleet.doctor_machine import text
from fleet.doctor_visit import Visit
from gateway.clock import NANO, boottime_ns, kernel_error_s, sane_date, system_offset_ns

RTC_OFF_S = 5.0  # it counts whole seconds and drifts 9 s a day at most
CHRONY_FIELDS = 14  # of `chronyc -c tracking` (chronyc(1)): id, name, stratum, time, system offset, ..., leap status


def check(visit: Visit) -> list[Finding]:
    """Source, chrony, battery-backed clock."""
    error = kernel_error_s()
    return [source(visit, error), chrony(visit, error), rtc(visit, error)]


def source(visit: Visit, kernel_error: float | None) -> Finding:
    """The time that readings are dated with now."""
    told = visit.recorder
    if told is None:
        if kernel_error is None:
            return yellow("clock_unsynchronised", say("do_clock"))
        return green("clock_kernel", error=kernel_error)
    name, error = told["utc_source"], told["utc_error_s"] or 0.0
    if name in ("gnss", "ntp"):
        return green("clock_recorder", source=name, error=error)
    if name == "rtc":
        return yellow("clock_recorder", say("do_clock"), source=name, error=error)
    return red("clock_none", say("do_clock"))


def chrony(visit: Visit, kernel_error: float | None) -> Finding:
    """Whether chrony follows somebody. Another program that keeps the kernel's clock is as well."""
    done = visit.machine.run("chronyc", "-c", "tracking")
    if done is None or done.code != 0:
        if kernel_error is not None:
            return grey("chrony_other")
        if done is None:
            return yellow("chrony_absent", say("do_chrony"))
        return yellow("chrony_silent", say("do_chrony_start"), error=done.said)
    fields = done.out.strip().split(",")
    if len(fields) < CHRONY_FIELDS:
        raise ValueError(f"chronyc tracking: {done.said}")
    if fields[-1] == "Not synchronised" or fields[2] == "0":
        return yellow("chrony_lost", say("do_chrony_sources"))
    return green("chrony_follows", name=fields[1], stratum=fields[2], offset=abs(float(fields[4])) * 1000)


def rtc(visit: Visit, kernel_error: float | None) -> Finding:
    """The battery-backed clock, and whether it is right where that can be known."""
    device = visit.machine.sys / "class/rtc/rtc0"
    if not device.exists():
        return grey("rtc_absent", say("do_rtc"))  # a Raspberry Pi 4 has none
    said = text(device / "since_epoch")
    if said is None or not sane_date(int(said) * NANO):
        return yellow("rtc_wrong", say("do_rtc_battery"))
    if kernel_error is None:
        return green("rtc_there")
    off = int(said) - (boottime_ns() + system_offset_ns()[0]) / NANO
    if abs(off) > RTC_OFF_S:
        return yellow("rtc_off", say("do_rtc_battery"), off=off)
    return green("rtc_there")
