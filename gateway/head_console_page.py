"""The technician's page about a head, 80 columns wide: who and how it is, a row for each sensor, what changed last."""

from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway import shown
from gateway.head_console_seen import Seen, Sensor, times

WIDTH = shown.WIDTH - shown.SPARE
NAME, STATE, AGE = 9, 8, 6  # columns; a sensor that is configuring needs more
CHANGES = 12  # at most, where the window has room
DAY_S = 86_400
GONE = ("failed", "absent")  # a sensor in these has no values any more
_MEASURE = Console(width=WIDTH)


def page(seen: Seen, port: str, trouble: str, now: float, height: int | None = None) -> RenderableType:
    """All of it; `trouble` says why the line is not open now. In less than `height` lines the last sensors show their state alone, and no
    change but the last: a state that nobody sees is worse than a value."""
    top = [_who(seen, port), *_how(seen, trouble, now)]
    sensors = list(seen.sensors())
    state_width = max([STATE, *(len(sensor.state) for sensor in sensors)])
    cells = [_values(sensor, WIDTH - NAME - state_width - AGE - 3) for sensor in sensors]
    changes = list(seen.changes)[-CHANGES:]
    ends: list[RenderableType] = []
    if height is not None:
        room = height - len(top) - 1
        if _shorten(cells, room - (2 if changes else 0)):
            ends.append(Text("a higher window shows all values", style="bright_black"))
            room -= 1
        room -= 1 + sum(map(len, cells))
        changes = changes[-room:] if room > 0 else []
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=NAME, no_wrap=True, style="bold")
    grid.add_column(width=state_width, no_wrap=True)
    grid.add_column(width=AGE, no_wrap=True, justify="right", style="bright_black")
    grid.add_column(no_wrap=True)
    for sensor, lines in zip(sensors, cells, strict=True):
        age = "" if sensor.ticks is None else _age(seen.age_s(sensor.ticks, now))
        state = Text(sensor.state, style=shown.COLOURS.get(sensor.state, "yellow"))
        grid.add_row(sensor.name, state, age, Text("\n").join(lines))
    parts: list[RenderableType] = [*top, Text(""), grid, *ends]
    if changes:
        parts += [Text("last changes", style="bold"), *(_change(seen, change, now) for change in changes)]
    return Group(*parts)


def _shorten(cells: list[list[Text]], room: int) -> bool:
    """Takes values away, from the last sensors on, until the rows need no more than `room` lines, one of which is to say so; whether it had
    to."""
    if sum(map(len, cells)) <= room:
        return False
    for index in range(len(cells) - 1, -1, -1):
        if sum(map(len, cells)) <= room - 1:
            break
        cells[index] = cells[index][:1] if _is_reason(cells[index][0]) else [Text("…", style="bright_black")]
    return True


def _who(seen: Seen, port: str) -> Text:
    hello = seen.hello or {}
    line = Text(f"head {hello.get('unique_id', '?')}", style="bold")
    line.append(f"  firmware {hello.get('firmware', '?')}", style="not bold")
    slot = str(hello.get("slot", ""))
    if slot:
        line.append(f", slot {slot}", style="not bold yellow" if "trial" in slot else "not bold")
    place = port if len(port) <= 22 else f"…{port[-21:]}"
    line.append(f"  {place}", style="not bold bright_black")
    line.truncate(WIDTH, overflow="ellipsis")
    return line


def _how(seen: Seen, trouble: str, now: float) -> list[Text]:
    hello, health = seen.hello or {}, seen.health
    # The chip calls a reset that the program made "watchdog", too; that one has a marker.
    cause = f"its own reset ({hello['marker']})" if hello.get("marker") else hello.get("reset_cause", "?")
    start = Text(f"{hello.get('runtime', '?')}, started by {cause}")
    if "boot_count" in hello:
        start.append(f", boot {hello['boot_count']}")
    start.truncate(WIDTH, overflow="ellipsis")
    if health is None:
        lines = [start, Text("health comes within 5 s"), Text(_ring(seen))]
    else:
        loop = health["longest_loop_us"] / 1000
        state = f"up {_age(health['uptime_s'])}, heap {health['heap_free'] / 1000:.1f} kB free, longest turn {loop:.0f} ms"
        ring = f"{_ring(seen)}, {health['ring_used'] / 1000:.1f} of {hello.get('ring_bytes', 0) / 1000:.1f} kB"
        if health["ring_dropped"]:
            ring += f", {health['ring_dropped']} dropped"
        lines = [start, Text(state), Text(ring)]
    rate = seen.rate(now)
    line = Text("line: " if rate is None else f"line: {rate:.0f} frames a second, ")
    line.append(f"{seen.damaged} bad", style="yellow" if seen.damaged else "")
    if health is not None:
        line.append(f", {health['refused']} refused by the head", style="yellow" if health["refused"] else "")
    if seen.restarts:
        line.append(f", {seen.restarts} restarts", style="yellow")
    if trouble:
        line = Text(f"line: {trouble}", style="red")
    elif seen.silent(now):
        line = Text("line: the head is silent", style="red")
    line.truncate(WIDTH, overflow="ellipsis")
    lines.append(line)
    if hello.get("parts_error"):
        lines.append(Text(f"list of parts refused: {hello['parts_error']}"[:WIDTH], style="red"))
    return lines


def _ring(seen: Seen) -> str:
    return f"ring: frames {seen.oldest} to {seen.newest}" if seen.newest else "ring: empty"


def _values(sensor: Sensor, width: int) -> list[Text]:
    """Its reason and its values, as many to a line as it holds. What a sensor that failed said before is no value any more."""
    pieces = []
    if sensor.reason or (sensor.failures and sensor.state != "ok"):
        failures = times(sensor.failures) if sensor.failures else ""
        pieces.append(Text(", ".join(word for word in (sensor.reason, failures) if word), style="yellow"))
    if sensor.state not in GONE:
        for group in shown.groups(sensor.values):
            pieces.append(Text(f"{shown.label(group)} ", style="bright_black").append_text(_plain(shown.of_group(group, sensor.values))))
    lines: list[Text] = []
    for piece in pieces:
        if lines and cell_len(lines[-1].plain) + 2 + cell_len(piece.plain) <= width:
            lines[-1] = Text("  ").join([lines[-1], piece])
        else:
            lines += piece.wrap(_MEASURE, width)
    return lines or [Text("")]


def _is_reason(line: Text) -> bool:
    return line.style == "yellow"


def _plain(text: Text) -> Text:
    """With its own style, whatever it is appended to."""
    return Text.assemble((text.plain, text.style or "default"))


def _change(seen: Seen, change: Any, now: float) -> Text:
    line = Text(f"{_age(seen.age_s(change.ticks, now)):>6} ago  {change.source:<9} ")
    line.append(change.text, style=shown.COLOURS.get(change.state, "yellow"))
    line.truncate(WIDTH, overflow="ellipsis")
    return line


def _age(seconds: float) -> str:
    """In at most 6 characters: 0.3 s, 12 s, 5 min, 3.4 h, 12 d."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for limit, unit, name in ((60, 1, "s"), (3600, 60, "min"), (DAY_S, 3600, "h")):
        if seconds < limit:
            return f"{seconds // unit:.0f} {name}" if unit < 3600 else f"{seconds / unit:.1f} {name}"
    return f"{seconds // DAY_S:.0f} d"


def as_json(seen: Seen, port: str, now: float) -> dict[str, Any]:
    """Everything as one object: values in SI with their unit and as shown, or the reason why there is none (any more)."""
    sensors = []
    for sensor in seen.sensors():
        gone = sensor.state in GONE
        values = {
            quantity: shown.as_json(quantity, (sensor.reason or sensor.state) if gone and not isinstance(value, str) else value)
            for quantity, value in sensor.values.items()
        }
        sensors.append(
            {
                "sensor": sensor.name,
                "state": sensor.state,
                "reason": sensor.reason,
                "failures": sensor.failures,
                "samples": sensor.samples,
                "age_s": None if sensor.ticks is None else round(seen.age_s(sensor.ticks, now), 3),
                "values": values,
            }
        )
    changes = [{"age_s": round(seen.age_s(one.ticks, now), 3), "source": one.source, "text": one.text} for one in seen.changes]
    return {
        "port": port,
        "hello": seen.hello,
        "health": seen.health,
        "ring": {"oldest": seen.oldest, "newest": seen.newest},
        "frames_per_second": None if (rate := seen.rate(now)) is None else round(rate, 1),
        "bad_frames": seen.damaged,
        "restarts": seen.restarts,
        "sensors": sensors,
        "changes": changes,
    }
