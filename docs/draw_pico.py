"""Draws docs/pico-wiring.svg, every pin of the Pico, from the table in hardware.md: python docs/draw_pico.py."""

from draw_shapes import INK, LINE, SOFT, WIRES, box, save, sheet, table, text, wire

# Pins 1 to 40 as the Pico's board has them (Raspberry Pi Pico data sheet, pinout).
# fmt: off
PINS = (
    "GP0", "GP1", "GND", "GP2", "GP3", "GP4", "GP5", "GND", "GP6", "GP7", "GP8", "GP9", "GND", "GP10", "GP11", "GP12", "GP13", "GND",
    "GP14", "GP15", "GP16", "GP17", "GND", "GP18", "GP19", "GP20", "GP21", "GND", "GP22", "RUN", "GP26", "GP27", "AGND", "GP28", "ADC_VREF",
    "3V3(OUT)", "3V3_EN", "GND", "VSYS", "VBUS",
)
# fmt: on
FIRST, STEP, BOARD_X, BOARD_W = 88, 29, 430, 220
HEIGHT = 740


def place(pin: int) -> tuple[float, float]:
    """Where the pin's pad is: 1 to 20 down the left edge, 21 to 40 up the right one."""
    return (BOARD_X, FIRST + (pin - 1) * STEP) if pin <= 20 else (BOARD_X + BOARD_W, FIRST + (40 - pin) * STEP)


def _pins(used: dict[int, list[str]]) -> list[str]:
    parts = []
    for pin, name in enumerate(PINS, 1):
        x, y = place(pin)
        left = pin <= 20
        colour = WIRES[used[pin][3]] if pin in used else "#dfe4e8"
        parts.append(f'<circle cx="{x}" cy="{y}" r="8" fill="{colour}" stroke="{LINE}"/>')
        ink = INK if pin in used else LINE
        parts.append(
            text(x + (14 if left else -14), y + 4, f"{pin}  {name}" if left else f"{name}  {pin}", 12, ink, "start" if left else "end")
        )
    return parts


def _labels(used: dict[int, list[str]]) -> list[str]:
    parts = []
    for pin, (signal, _, _, colour, level, _) in used.items():
        x, y = place(pin)
        left = pin <= 20
        end = x - 132 if left else x + 140
        parts.append(wire(f"M{x + (-8 if left else 8)} {y}H{end}", colour, 3, arrow=False))
        parts.append(
            text(
                x + (-14 if left else 14),
                y - 5,
                f"{signal}, {colour}" if left else f"{colour}, {level}",
                11,
                INK,
                "end" if left else "start",
            )
        )
    return parts


def _bundle(used: dict[int, list[str]], pins: tuple[int, ...], middle: float) -> list[str]:
    """From the labels of these pins to the box in whose middle they end."""
    parts = []
    for index, pin in enumerate(pins):
        y = place(pin)[1]
        target = middle + (index - (len(pins) - 1) / 2) * 16
        parts.append(wire(f"M{BOARD_X - 132} {y}L{BOARD_X - 172} {target}H{BOARD_X - 198}", used[pin][3], 3, arrow=False))
    return parts


def draw() -> str:
    """The wiring as SVG text."""
    used = {int(row[2]): row for row in table("Pins of the Pico")}
    address = {row[1]: row[2] for row in table("Addresses on the head's buses")}
    bottom = FIRST + 19 * STEP
    body = [
        f'<rect x="{BOARD_X}" y="{FIRST - 26}" width="{BOARD_W}" height="{bottom - FIRST + 52}" rx="10" fill="#e3f1e4" stroke="{LINE}"/>',
        f'<rect x="{BOARD_X + 80}" y="{FIRST - 38}" width="60" height="30" rx="4" fill="#d3d8dc" stroke="{LINE}"/>',
        text(BOARD_X + 110, FIRST - 46, "USB to the Pi (5 V, data)", 12, SOFT, "middle"),
        text(BOARD_X + 110, bottom + 48, "Raspberry Pi Pico", 14, INK, "middle", 700),
        text(BOARD_X + 110, bottom + 66, "seen from above", 12, SOFT, "middle"),
    ]
    body += _pins(used) + _labels(used)
    # y of each box's middle is near its pins, so that no wires cross
    body += box(20, 62, 212, 66, "head", "NEO-M9N", "only where it is on the head", "else USB to the Pi")
    body += _bundle(used, (1, 2), 95)
    main = [f"ICM-20948  {address['icm20948']}", f"BMP390  {address['bmp390']}", f"SHT45  {address['sht45']}"]
    body += box(20, 146, 212, 118, "head", "I2C0, 400 kHz", *main, f"OPT3001  {address['opt3001']}", f"or VEML7700  {address['veml7700']}")
    body += _bundle(used, (6, 7), 220)
    body += box(20, 284, 212, 70, "head", "I2C1, 400 kHz", f"AS7331  {address['as7331']}", "alone on its bus")
    body += _bundle(used, (9, 10), 326)
    body += box(20, 376, 212, 88, "head", "SPS30", "UART 115200 8N1", "1 VDD  2 RX  3 TX  5 GND", "4 SEL stays open")
    body += _bundle(used, (11, 12), 412)
    body += box(
        20,
        480,
        212,
        88,
        "power",
        "load switch, TPS22918",
        "VIN 5 V  VOUT to SPS30, pin 1",
        "QOD to VOUT, CT 1 nF to GND",
        "ON: 10 kΩ to 3.3 V",
    )
    body += _bundle(used, (14,), 524)
    right = BOARD_X + BOARD_W + 140
    for pin, name, lines in (
        (40, "5 V", ("only to the load switch, VIN",)),
        (38, "ground", ("all parts; SPS30 pin 5",)),
        (36, "3.3 V", ("parts 3 to 7, pull-ups", "ICM-20948: breakout only, its", "VDDIO is 1.8 V")),
    ):
        y = place(pin)[1]
        top = y - 22 if len(lines) == 1 else y - 16
        body += box(right, top, 210, 42 if len(lines) == 1 else 78, "power", name, *lines)
    y = 400
    notes = (
        "Pull-ups: 2.2 kΩ from SDA and from SCL to 3.3 V,",
        "one pair a bus, near the Pico.",
        "TX of the Pico goes to RX of the part.",
        "Red is 3.3 V, orange is 5 V: never exchange them.",
        "Grey pins stay open.",
    )
    body += [text(BOARD_X + BOARD_W + 36, y + 22 * number, note, 13, SOFT) for number, note in enumerate(notes)]
    japanese = ("赤 3.3 V、橙 5 V。逆にすると部品3〜7が壊れます。", "灰色のピンには何もつながないこと。")
    body.append('<g lang="ja">')
    body += [text(BOARD_X + BOARD_W + 36, y + 130 + 22 * number, note, 13, SOFT) for number, note in enumerate(japanese)]
    body.append("</g>")
    return sheet(1020, HEIGHT, "Wiring of the Pico", "Pico の配線(全40ピン)", body)


if __name__ == "__main__":
    save("pico-wiring.svg", draw())
