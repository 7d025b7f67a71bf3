"""Draws docs/mounting.svg, where the parts sit on a garbage truck, seen from its right and from above: python docs/draw_mounting.py."""

from draw_shapes import INK, LINE, SOFT, save, sheet, text, wire

BODY, CAB, GLASS, KEEP = "#eef1f3", "#e2e8ec", "#cfe3f2", "#d0342c"
# number, name, Japanese, (x, y) from the side, (x, y) from above; None where it is not seen
PARTS = (
    (1, "head, x arrow forward", "センサーヘッド(x は前)", (706, 108), (706, 462)),
    (2, "receiver's antenna", "GNSS アンテナ", (752, 120), (752, 420)),
    (3, "modem's antenna", "LTE アンテナ", (660, 120), (660, 504)),
    (4, "camera, wiped area of the windscreen", "カメラ(ワイパー範囲)", (778, 150), (790, 462)),
    (5, "gateway box, behind the passenger's seat", "ゲートウェイ(助手席の後)", (660, 232), (650, 432)),
    (6, "terminal 30 and F1, at the battery", "バッテリーとヒューズ F1", (450, 332), (450, 540)),
)


def _spot(number: int, where: tuple[float, float]) -> list[str]:
    x, y = where
    return [
        f'<circle cx="{x:g}" cy="{y:g}" r="13" fill="#1f6f3a" stroke="white" stroke-width="2"/>',
        text(x, y + 5, str(number), 14, "white", "middle", 700),
    ]


def _keep_away(x: float, y: float, radius: float, words: str, dx: float, dy: float) -> list[str]:
    return [
        f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{KEEP}" fill-opacity="0.12" stroke="{KEEP}" stroke-dasharray="5 4"/>',
        text(x + dx, y + dy, words, 12, KEEP, "middle", 600),
    ]


def _side() -> list[str]:
    wheels = [
        f'<circle cx="{x}" cy="330" r="34" fill="#4a5560"/><circle cx="{x}" cy="330" r="14" fill="#c6ccd1"/>' for x in (250, 330, 720)
    ]
    return [
        text(20, 68, "from the right (not to scale)", 14, SOFT, weight=600),
        f'<path d="M110 300V150Q110 116 150 116H560V300Z" fill="{BODY}" stroke="{LINE}" stroke-width="2"/>',
        f'<path d="M70 320L70 200Q78 130 150 116L150 320Z" fill="{CAB}" stroke="{LINE}" stroke-width="2"/>',
        text(110, 232, "hopper", 12, SOFT, "middle"),
        f'<path d="M620 310V132H770L800 200V310Z" fill="{CAB}" stroke="{LINE}" stroke-width="2"/>',
        f'<path d="M735 142H764L790 200H735Z" fill="{GLASS}" stroke="{LINE}"/>',
        '<rect x="110" y="300" width="690" height="14" fill="#9aa6af"/>',
        f'<rect x="410" y="314" width="80" height="36" fill="{CAB}" stroke="{LINE}"/>',
        *wheels,
        f'<path d="M20 364H850" stroke="{LINE}" stroke-width="2"/>',
        '<path d="M590 300V150Q590 140 576 138" fill="none" stroke="#5d656c" stroke-width="9"/>',
        *_keep_away(574, 134, 52, "exhaust: 1.5 m", -20, -62),
        *_keep_away(110, 210, 72, "hopper, splash: 1 m", 30, -88),
    ]


def _above() -> list[str]:
    return [
        text(20, 400, "from above", 14, SOFT, weight=600),
        f'<rect x="110" y="408" width="450" height="116" rx="10" fill="{BODY}" stroke="{LINE}" stroke-width="2"/>',
        f'<rect x="70" y="412" width="80" height="108" rx="10" fill="{CAB}" stroke="{LINE}" stroke-width="2"/>',
        f'<rect x="620" y="402" width="180" height="128" rx="10" fill="{CAB}" stroke="{LINE}" stroke-width="2"/>',
        f'<path d="M776 410Q796 466 776 522L798 516Q812 466 798 416Z" fill="{GLASS}" stroke="{LINE}"/>',
        '<circle cx="590" cy="420" r="7" fill="#5d656c"/>',
        *_keep_away(590, 420, 44, "exhaust", -62, -16),
    ]


def _axes() -> list[str]:
    x, y = 880, 190
    return [
        wire(f"M{x} {y}H{x + 74}", "red", 3), text(x + 80, y + 5, "x  forward 前", 13, INK, weight=600),
        wire(f"M{x} {y}V{y - 74}", "blue", 3), text(x + 8, y - 62, "z  up 上", 13, INK, weight=600),
        f'<circle cx="{x}" cy="{y}" r="9" fill="white" stroke="#2e8b3d" stroke-width="3"/>',
        f'<path d="M{x - 6} {y - 6}l12 12m0 -12l-12 12" stroke="#2e8b3d" stroke-width="2"/>',
        text(x - 14, y + 26, "y  left 左 (away from you)", 13, INK, weight=600),
        text(x - 14, y + 56, "standing level: z reads +9.81 m/s²", 12, SOFT),
        text(x - 14, y + 74, "braking: x below 0", 12, SOFT),
        text(x - 14, y + 92, "turning left: rate about z above 0", 12, SOFT),
    ]  # fmt: skip


def draw() -> str:
    """Both views as SVG text."""
    body = _side() + _above() + _axes()
    for number, name, japanese, side, above in PARTS:
        body += _spot(number, side) + _spot(number, above)
        y = 396 + (number - 1) * 42
        body += _spot(number, (890, y))
        body.append(text(912, y - 2, name, 13))
        body.append(f'<g lang="ja">{text(912, y + 15, japanese, 12, SOFT)}</g>')
    body.append(
        text(
            20,
            586,
            "Cables leave every housing downwards, with a drip loop, and are held within 100 mm of each gland.",
            13,
            SOFT,
        )
    )
    body.append(
        f'<g lang="ja">{text(20, 610, "ケーブルは下向きに出し、水切りのたるみを作る。高圧洗浄機をヘッドに向けないこと。", 13, SOFT)}</g>'
    )
    return sheet(1200, 640, "Where the parts sit on the truck", "取付位置", body)


if __name__ == "__main__":
    save("mounting.svg", draw())
