"""What the page shows, as one flat dictionary of short texts: key -> text. The page is rendered from it once and patched from its
changes afterwards, so that a number is formatted in one place only.

Keys: `hub/...` for the center itself; `<truck>/...` and `<truck>/q/<quantity>/...` for a truck. Keys that end in `state` hold a word that
the style sheet colours; beside each stands a key with the same fact in words.
"""

import datetime

from center.archive import Counts
from center.fleet_state import Live, TruckState, freshness
from logbook.quantities import BY_ID, TEN

JST = datetime.timezone(datetime.timedelta(hours=9), "JST")  # the city's time; Japan has had no other since 1951

# Three axes make a row of the table; everything else is a tile. All of TEN, in its order.
VECTORS = (
    ("acceleration", "加速度", "Acceleration"),
    ("angular_rate", "角速度", "Angular rate"),
    ("magnetic_field", "地磁気", "Magnetic field"),
)
TILES = tuple(quantity for quantity in TEN if quantity[:-2] not in {vector[0] for vector in VECTORS})

STATUS = {
    "fresh": ("受信中", "fresh"),
    "stale": ("位置が古い", "stale"),
    "nofix": ("測位なし", "no fix"),
    "offline": ("不通", "offline"),
    "ahead": ("時計ずれ", "clock ahead"),
}

# Reasons a value is absent, as the drivers, the gateway and this room write them; one that is not here is shown as it came.
REASONS = {
    "saturated": "測定範囲外",
    "bad checksum": "チェックサム不一致",
    "not ready": "準備中",
    "implausible": "ありえない値",
    "no new sample": "新しい測定なし",
    "no acknowledge": "センサー応答なし",
    "time-out": "時間切れ",
    "bus stuck": "バス停止",
    "wrong identity": "別のセンサー",
    "device reports a fault": "センサー自身が故障を報告",
    "heater on": "ヒーター動作中",
    "fan cleaning": "ファン清掃中",
    "power switched": "電源入れ直し",
    "no fix": "測位なし",
    "no value": "値なし",
    "unreadable value": "読めない値",
}

NOTHING = "—"


def age_text(age_s: float | None) -> tuple[str, str]:
    """An age in seconds in Japanese and English words, coarser with distance; a time that lies ahead is said to."""
    if age_s is None:
        return "受信なし", "never"
    if age_s < -1.0:
        return f"{-age_s:.0f} 秒先", f"{-age_s:.0f} s ahead"
    for limit, size, japanese, english in ((90, 1, "秒", "s"), (5400, 60, "分", "min"), (129_600, 3600, "時間", "h")):
        if age_s < limit:
            count = int(max(age_s, 0.0) / size)
            return f"{count} {japanese}前", f"{count} {english} ago"
    days = int(age_s / 86_400)
    return f"{days} 日前", f"{days} d ago"


def clock_text(utc_ns: int) -> str:
    """UTC in ns as the city's date and time."""
    return datetime.datetime.fromtimestamp(utc_ns / 1e9, JST).strftime("%Y-%m-%d %H:%M:%S JST")


def bytes_text(count: int) -> str:
    """A size with three figures and a decimal prefix."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if size >= 100 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def value_text(quantity: str, value: float | None) -> str:
    """An SI value in the display unit of its quantity, without the unit; a dash for None."""
    if value is None:
        return NOTHING
    row = BY_ID[quantity]
    text = f"{row.display.shown(value):.{row.decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text  # no "-0.00"


def truck_fields(truck: TruckState, counts: Counts, now_ns: int) -> dict[str, str]:
    """Everything the page shows of `truck` at UTC `now_ns`."""
    status = truck.status(now_ns)
    japanese, english = age_text(truck.fix_age_s(now_ns))
    fields = {
        "state": status,
        "status": STATUS[status][0],
        "status_en": STATUS[status][1],
        "fix_age": japanese,
        "fix_age_en": english,
        "position": NOTHING,
        "segments": str(counts.stored),
        "receipted": str(counts.receipted),
        "refused": str(counts.refused),
        "refused_state": "bad" if counts.refused else "none",
        "pictures": str(counts.pictures),
        "bytes": bytes_text(counts.bytes),
    }
    if truck.position is not None:
        latitude, longitude = truck.position.latitude, truck.position.longitude
        fields["position"] = f"{value_text('latitude', latitude)}, {value_text('longitude', longitude)}"
    fields |= _picture_fields(truck, now_ns)
    for quantity in TEN:
        for key, text in _quantity_fields(quantity, truck.values.get(quantity), now_ns).items():
            fields[f"q/{quantity}/{key}"] = text
    for vector, _, _ in VECTORS:
        marks = [fields[f"q/{vector}_{axis}/mark"] for axis in "xyz"]
        fields[f"v/{vector}/mark"] = next(filter(None, marks), "")
        axes: dict[str, str] = {}  # note -> the axes it is about
        for axis in "xyz":
            note = fields[f"q/{vector}_{axis}/note"]
            axes[note] = axes.get(note, "") + axis.upper()
        fields[f"v/{vector}/note"] = "、".join(note if of == "XYZ" else f"{of}: {note}" for note, of in axes.items() if note)
    return {f"{truck.name}/{key}": text for key, text in fields.items()}


def hub_fields(connected: bool, error: str, now_ns: int, free_bytes: int) -> dict[str, str]:
    """The line above the trucks: link to the hub, clock, room on the disk."""
    return {
        "hub/state": "fresh" if connected else "offline",
        "hub/status": "ハブ接続中" if connected else "ハブ切断・再接続中",
        "hub/status_en": "hub connected" if connected else "hub lost, reconnecting",
        "hub/error": "" if connected else error,
        "hub/clock": clock_text(now_ns),
        "hub/free": bytes_text(free_bytes),
    }


def _quantity_fields(quantity: str, live: Live | None, now_ns: int) -> dict[str, str]:
    if live is None:
        return {"value": NOTHING, "state": "offline", "note": "受信なし (never)", "mark": ""}
    age = (now_ns - live.utc_ns) / 1e9
    state = freshness(age)
    notes = []
    if live.value is None:
        translated = REASONS.get(live.reason)
        notes.append(f"{translated} ({live.reason})" if translated else live.reason)
    if state != "fresh":
        notes.append("{} ({})".format(*age_text(age)))
    marked = not live.calibrated and BY_ID[quantity].sensor != "gnss"  # a receiver has no calibration of ours
    return {
        "value": value_text(quantity, live.value),
        "state": "reason" if live.value is None else state,
        "note": "、".join(notes),
        "mark": "未校正" if marked else "",
    }


def _picture_fields(truck: TruckState, now_ns: int) -> dict[str, str]:
    picture = truck.picture
    if picture is None:
        nothing = {"image/caption": "写真はまだ届いていません", "image/caption_en": "no picture yet"}
        return {"image/state": "none", "image/src": "", "image/alt": "", **nothing}
    when, when_en = clock_text(picture.utc_ns) if picture.utc_ns else "時刻不明", ""
    if picture.utc_ns:
        japanese, when_en = age_text((now_ns - picture.utc_ns) / 1e9)
        when = f"{when}({japanese})"
    return {
        "image/state": "shown",
        "image/src": f"/api/trucks/{truck.name}/image?t={picture.boottime_ns}-{len(picture.jpeg)}",
        "image/alt": f"{truck.name} のカメラ {picture.camera} の最新の写真",
        "image/caption": f"{picture.camera}  {when}",
        "image/caption_en": when_en,
    }
