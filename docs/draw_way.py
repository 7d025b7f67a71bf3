"""Draws docs/way-of-one-reading.svg, the picture of the README: python docs/draw_way.py. A test compares the committed file with this."""

from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, ROW, TOP = 980, 128, 46
LEFT, BOX_W, BOX_H, GAP = 180, 176, 66, 22
INK, SOFT, LINE = "#1c2b36", "#5b6b77", "#8796a1"
FILL = {"truck": "#eef4e8", "gateway": "#e8f0f8", "city": "#fbf1e3"}

# name, second line, colour, from which box on one follows the other, boxes (title, what happens there)
ROWS = (
    ("sensor head", "RP2040, MicroPython", "truck", 1, (
        ("chip register", "raw bits"), ("drivers/x.py", "read_into(buf)"),
        ("frame", "ticks, sequence, CRC"), ("ring ≥ 20 s", "until acknowledged"))),
    ("gateway", "Raspberry Pi", "gateway", 1, (
        ("gateway/head.py", "USB serial"), ("decode, calibrate", "SI values or a reason"),
        ("segment on disk", "fdatasync ≤ 0.5 s"), ("uplink", "live 1 Hz, segments"))),
    ("hub", "ejabberd", "city", 4, (
        ("_data", "live values, SoX"), ("HTTP upload", "the sealed segment"),
        ("_segments", "its announcement"), ("_receipts", "the center's word"))),
    ("center", "of the city", "city", 2, (
        ("live state, page", "every quantity"), ("fetch, verify", "size, SHA-256, chunks"),
        ("archive", "stored and synced"), ("receipt", "only then"))),
)  # fmt: skip


def _box(x: float, y: float, fill: str, title: str, text: str) -> list[str]:
    middle = x + BOX_W / 2
    return [
        f'<rect x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="8" fill="{fill}" stroke="{LINE}"/>',
        f'<text x="{middle}" y="{y + 28}" text-anchor="middle" font-size="15" font-weight="600" fill="{INK}">{escape(title)}</text>',
        f'<text x="{middle}" y="{y + 49}" text-anchor="middle" font-size="13" fill="{SOFT}">{escape(text)}</text>',
    ]


def _arrow(path: str, dash: str = "") -> list[str]:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return [f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="2" marker-end="url(#a)"{dashed}/>']


def draw() -> str:
    """The picture as SVG text."""
    height = TOP + ROW * len(ROWS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" role="img"'
        ' aria-label="The way of one reading: chip, head, gateway, hub, center, and the receipt back">',
        f'<defs><marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L10 5L0 10z" fill="{LINE}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="20" y="28" font-size="18" font-weight="700" fill="{INK}">The way of one reading</text>',
    ]
    for row, (name, what, kind, follow, boxes) in enumerate(ROWS):
        y = TOP + row * ROW + 10
        parts.append(f'<text x="20" y="{y + 30}" font-size="14" font-weight="600" fill="{INK}">{escape(name)}</text>')
        parts.append(f'<text x="20" y="{y + 49}" font-size="13" fill="{SOFT}">{escape(what)}</text>')
        for index, (title, text) in enumerate(boxes):
            x = LEFT + index * (BOX_W + GAP)
            parts += _box(x, y, FILL[kind], title, text)
            if index >= follow:
                parts += _arrow(f"M{x - GAP} {y + BOX_H / 2}H{x - 2}")
    # from the head's ring to the serial port, from the uplink to the hub's nodes, from the nodes to the center
    first, last = LEFT + BOX_W / 2, LEFT + 3 * (BOX_W + GAP) + BOX_W / 2
    down = [TOP + row * ROW + 10 for row in range(len(ROWS))]
    parts += _arrow(f"M{last - 30} {down[0] + BOX_H}V{down[1] - 31}H{first}V{down[1] - 2}")
    for index in range(3):
        x = first + index * (BOX_W + GAP)
        parts += _arrow(f"M{last - 30} {down[1] + BOX_H}V{down[2] - 31}H{x}V{down[2] - 2}")
        end = f"V{down[3] - 31}H{first + BOX_W + GAP + 20}" if index == 2 else ""
        parts += _arrow(f"M{x} {down[2] + BOX_H}{end}V{down[3] - 2}")
    # the two words that come back
    middle = first + 2 * (BOX_W + GAP)
    parts += _arrow(f"M{middle + 30} {down[1]}V{down[0] + BOX_H + 46}H{last + 30}V{down[0] + BOX_H + 3}", "5 4")
    parts.append(f'<text x="{middle + 40}" y="{down[1] - 4}" font-size="11" fill="{SOFT}">acknowledged: the head may forget</text>')
    parts += _arrow(f"M{last + 30} {down[3]}V{down[2] + BOX_H + 3}", "5 4")
    parts += _arrow(f"M{last + 30} {down[2]}V{down[1] + BOX_H + 3}", "5 4")
    parts.append(f'<text x="{last + 24}" y="{down[2] - 12}" text-anchor="end" font-size="12" fill="{SOFT}">delivered only now</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    Path(__file__).with_name("way-of-one-reading.svg").write_text(draw())
