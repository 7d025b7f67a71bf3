"""The markup of the page. `page` writes it once for the trucks of the configuration, with `@{key}@` where a text of center/display.py
goes; `fill` puts the texts in, escaped. The same key stands in a data attribute of the element, where page.js finds it:

    data-text="key"     the element's text          data-state-of="key"     its data-state, which page.css colours
    data-source-of      the address of a picture    data-label-of           the text read out for it
"""

from collections.abc import Mapping
from html import escape

from center import display
from logbook.quantities import BY_ID


def fill(page: str, fields: Mapping[str, str]) -> str:
    """`page` with every `@{key}@` replaced by the escaped text of that key (texts are not searched again); raises KeyError."""
    start, *parts = page.split("@{")
    filled = [start]
    for part in parts:
        key, rest = part.split("}@", 1)
        filled += [escape(fields[key]), rest]
    return "".join(filled)


def page(trucks: list[str]) -> str:
    """The whole page of these trucks, to be filled."""
    rows = "".join(_row(truck) for truck in trucks)
    panels = "".join(_panel(truck) for truck in trucks)
    hub = _state("hub/state", _text("hub/status") + " " + _english("hub/status_en"))
    heads = (
        _th("車両", "Truck"), _th("状態", "State"), _th("測位からの時間", "Age of fix"), _th("位置", "Position", "number"),
        _th("速度", "Speed", "number"), _th("進行方向", "Bearing", "number"), _th("受信 / 受領済", "Segments / receipted", "number"),
    )  # fmt: skip
    return f"""<!DOCTYPE html>
<html lang="ja" data-layout="@{{layout}}@">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Cruisers 環境センター</title>
<link rel="icon" href="/icon.svg"><link rel="stylesheet" href="/page.css"><script src="/page.js" defer></script>
</head>
<body data-live="yes">
<a class="skip" href="#fleet">車両一覧へ</a>
<p id="lost" role="alert" hidden>画面の更新が止まっています <span lang="en">this page is no longer updated</span></p>
<header>
<h1>Cruisers 環境センター <span lang="en">Environment center</span></h1>
<span role="status">{hub} {_text("hub/error", "note")}</span>
<span>空き容量 <span lang="en">disk free</span> {_text("hub/free")}</span>
{_text("hub/clock", "clock")}
</header>
<main>
<section class="panel fleet" id="fleet" aria-label="車両一覧">
<table><caption>車両一覧 <span lang="en">Trucks</span></caption>
<thead><tr>{"".join(heads)}</tr></thead>
<tbody>
{rows}</tbody></table>
</section>
{panels}</main>
<footer>値は各センサーの採取時刻のもの。未校正の値には印 <span lang="en">Values as collected; 未校正 = not calibrated</span></footer>
</body>
</html>
"""


def _row(truck: str) -> str:
    name = escape(truck)
    cells = "".join(
        f'<td class="number" data-name="{escape(BY_ID[quantity].name_ja)}"{_state_of(f"{truck}/q/{quantity}/state")}>'
        f"{_text(f'{truck}/q/{quantity}/value')}{_unit(quantity)}</td>"
        for quantity in ("speed", "bearing")
    )
    return (
        f'<tr><th scope="row"><a href="#truck-{name}">{name}</a></th><td>{_truck_state(truck)}</td>'
        f"<td>{_text(f'{truck}/fix_age')} {_english(f'{truck}/fix_age_en')}</td>"
        f'<td class="number">{_text(f"{truck}/position")}</td>{cells}'
        f'<td class="number" data-name="受信 / 受領済">{_text(f"{truck}/segments")} / {_text(f"{truck}/receipted")}</td></tr>\n'
    )


def _panel(truck: str) -> str:
    name = escape(truck)
    tiles = "".join(_tile(truck, quantity) for quantity in display.TILES)
    axes = "".join(_axes(truck, *vector) for vector in display.VECTORS)
    axis_heads = "".join(_th(axis, "", "number") for axis in "XYZ")
    return f"""<article class="panel" id="truck-{name}" aria-labelledby="name-{name}">
<div class="head"><h2 id="name-{name}">{name}</h2>{_truck_state(truck)}
<span>測位 {_text(f"{truck}/fix_age")} {_english(f"{truck}/fix_age_en")}</span>
<span class="where number">{_text(f"{truck}/position")}</span></div>
<div class="body">
<div>
<figure>
<div class="frame"{_state_of(f"{truck}/image/state")}>{_picture(truck)}\
<span class="empty">写真なし <span lang="en">no picture</span></span></div>
<figcaption>{_text(f"{truck}/image/caption")} {_english(f"{truck}/image/caption_en")}</figcaption>
</figure>
<ul class="counts">
<li>受信 <span lang="en">segments</span> {_text(f"{truck}/segments", "count")}</li>
<li>受領済 <span lang="en">receipted</span> {_text(f"{truck}/receipted", "count")}</li>
<li{_state_of(f"{truck}/refused_state")}>拒否 <span lang="en">refused</span> {_text(f"{truck}/refused", "count")}</li>
<li>写真 <span lang="en">pictures</span> {_text(f"{truck}/pictures", "count")}</li>
<li>保存量 <span lang="en">stored</span> {_text(f"{truck}/bytes", "count")}</li>
</ul>
</div>
<div>
<dl class="tiles">
{tiles}</dl>
<table class="axes" aria-label="{name} 三軸の値">
<thead><tr>{_th("三軸", "Three axes")}{axis_heads}{_th("単位", "Unit")}</tr></thead>
<tbody>
{axes}</tbody></table>
</div>
</div>
</article>
"""


def _picture(truck: str) -> str:
    source, label = f"{truck}/image/src", f"{truck}/image/alt"
    return f'<img src="@{{{source}}}@" data-source-of="{escape(source)}" alt="@{{{label}}}@" data-label-of="{escape(label)}">'


def _tile(truck: str, quantity: str) -> str:
    row, key = BY_ID[quantity], f"{truck}/q/{quantity}"
    english = "" if row.name in row.name_ja else f'<span lang="en">{escape(row.name)}</span>'  # UV-A and PM2.5 say it already
    return (
        f'<div class="tile" data-quantity="{quantity}"><dt>{escape(row.name_ja)} {english}</dt>'
        f"<dd{_state_of(f'{key}/state')}>{_text(f'{key}/value', 'value')}{_unit(quantity)} {_text(f'{key}/mark', 'mark')}"
        f"{_text(f'{key}/note', 'note')}</dd></div>\n"
    )


def _unit(quantity: str) -> str:
    unit = BY_ID[quantity].display.unit
    return f'<span class="unit">{"" if unit == "°" else " "}{escape(unit)}</span>'  # degrees stand at the number, as SI writes them


def _axes(truck: str, vector: str, japanese: str, english: str) -> str:
    key = f"{truck}/v/{vector}"
    cells = ""
    for axis in "xyz":
        quantity = f"{truck}/q/{vector}_{axis}"
        cells += f'<td class="number"{_state_of(f"{quantity}/state")}>{_text(f"{quantity}/value")}</td>'
    return (
        f'<tr><th scope="row">{japanese} <span lang="en">{english}</span> {_text(f"{key}/mark", "mark")}{_text(f"{key}/note", "note")}</th>'
        f'{cells}<td class="unit">{escape(BY_ID[f"{vector}_x"].display.unit)}</td></tr>\n'
    )


def _truck_state(truck: str) -> str:
    return _state(f"{truck}/state", f"{_text(f'{truck}/status')} {_english(f'{truck}/status_en')}")


def _state_of(key: str) -> str:
    return f' data-state-of="{escape(key)}" data-state="@{{{key}}}@"'


def _state(key: str, content: str) -> str:
    return f'<span class="state"{_state_of(key)}>{content}</span>'


def _text(key: str, kind: str = "") -> str:
    return f'<span{_class(kind)} data-text="{escape(key)}">@{{{key}}}@</span>'


def _english(key: str) -> str:
    return f'<span lang="en" data-text="{escape(key)}">@{{{key}}}@</span>'


def _th(japanese: str, english: str, kind: str = "") -> str:
    small = f' <span lang="en">{english}</span>' if english else ""
    return f'<th scope="col"{_class(kind)}>{japanese}{small}</th>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
