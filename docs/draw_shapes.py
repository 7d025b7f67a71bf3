"""What the hardware drawings share: shapes as SVG text, the colours, and the tables of hardware.md, from which they take what they show."""

from pathlib import Path
from xml.sax.saxutils import escape

HARDWARE = Path(__file__).parents[1] / "hardware.md"
INK, SOFT, LINE = "#1c2b36", "#5b6b77", "#8796a1"
FILL = {"truck": "#fbf1e3", "power": "#fdeaea", "head": "#eef4e8", "gateway": "#e8f0f8", "city": "#f3eef8", "none": "#ffffff"}
# Colours of wires, as hardware.md names them. White and yellow are drawn darker, to be seen on paper.
WIRES = {
    "red": "#d0342c", "orange": "#e8871e", "black": "#222222", "blue": "#2464c4", "yellow": "#c9a400",
    "green": "#2e8b3d", "white": "#b9c0c6", "violet": "#8a4bb3", "grey": "#7a7f85", "none": "#8796a1",
}  # fmt: skip


def table(heading: str) -> list[list[str]]:
    """The rows (cells without blanks around them) of the first table under the heading of any level in hardware.md; KeyError if none."""
    lines = iter(HARDWARE.read_text().splitlines())
    for line in lines:
        if line.startswith("#") and line.lstrip("# ") == heading:
            break
    rows: list[list[str]] = []
    for line in lines:
        if line.startswith("#"):
            break
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
        elif rows:
            break
    if len(rows) < 3:
        raise KeyError(f"no table under {heading!r} in hardware.md")
    return rows[2:]


def sheet(width: int, height: int, title: str, japanese: str, body: list[str]) -> str:
    """A whole drawing: white ground, title in English and Japanese, arrow head for `wire`, then `body`."""
    heads = "".join(
        f'<marker id="a-{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="6" markerHeight="6" orient="auto-start-reverse">'
        f'<path d="M0 0L10 5L0 10z" fill="{colour}"/></marker>'
        for name, colour in WIRES.items()
    )
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}"'
        ' font-family="\'Noto Sans\', \'Noto Sans CJK JP\', \'Hiragino Sans\', \'Yu Gothic\', sans-serif">',
        f"<defs>{heads}</defs>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        text(20, 30, title, 18, weight=700),
        f'<g lang="ja">{text(width - 20, 30, japanese, 14, SOFT, "end")}</g>',
        *body, "</svg>", "",
    ])  # fmt: skip


def text(x: float, y: float, words: str, size: int = 13, colour: str = INK, anchor: str = "start", weight: int = 400) -> str:
    """One line of text; y is its base line."""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def box(x: float, y: float, width: float, height: float, kind: str, title: str, *lines: str) -> list[str]:
    """A labelled box: title in bold, further lines below it, all centred."""
    middle = x + width / 2
    top = y + height / 2 - len(lines) * 8 + 5
    return [
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="7" fill="{FILL[kind]}" stroke="{LINE}"/>',
        text(middle, top, title, 14, anchor="middle", weight=600),
        *(text(middle, top + 17 * (number + 1), line, 12, SOFT, "middle") for number, line in enumerate(lines)),
    ]


def frame(x: float, y: float, width: float, height: float, kind: str, title: str) -> list[str]:
    """A housing around boxes, its name in the upper left corner."""
    return [
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="12" fill="{FILL[kind]}" fill-opacity="0.45" stroke="{LINE}"'
        ' stroke-dasharray="6 4"/>',
        text(x + 12, y + 20, title, 13, INK, weight=700),
    ]


def wire(path: str, colour: str = "none", width: float = 2, arrow: bool = True, dashed: bool = False) -> str:
    """A line along an SVG path in a wire's colour, with an arrow at its end."""
    end = f' marker-end="url(#a-{colour})"' if arrow else ""
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    return f'<path d="{path}" fill="none" stroke="{WIRES[colour]}" stroke-width="{width:g}"{end}{dash}/>'


def save(name: str, drawing: str) -> None:
    """Write the drawing beside the scripts."""
    Path(__file__).with_name(name).write_text(drawing)
