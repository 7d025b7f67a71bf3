"""The demo's terminal: what the center knows, read from the center's own API once a beat, as a live table of at most 80 columns."""

import http.client
import json
import sys
import types
import urllib.request
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from logbook.quantities import BY_ID, TEN

if TYPE_CHECKING:
    from sim.demo import Demo

WIDTH = 80
RAW_WIDTH = 24  # a long one must not push the others out
API_SECONDS = 2.0


class CenterView:
    """Shows `demo` while it runs and its result at the end. Where there is no terminal it prints a line every ten seconds instead."""

    def __init__(self, demo: "Demo"):
        self.demo = demo
        terminal = Console()
        self.console = terminal if not terminal.is_terminal or terminal.width <= WIDTH else Console(width=WIDTH)
        self.words = ""
        self._live = Live(console=self.console, auto_refresh=False, transient=True) if terminal.is_terminal else None
        self._beats = 0

    def __enter__(self) -> "CenterView":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, words: str) -> None:
        """One line about what is going on."""
        self.words = words
        if self._live is None:
            if words:
                print(words, file=sys.stderr, flush=True)
        else:
            self._live.update(Text(words), refresh=True)

    def update(self) -> None:
        """Asks the center and draws."""
        truck = self._truck()
        status = self.demo.uplink_status()
        self._beats += 1
        if self._live is not None:
            self._live.update(self._draw(truck, status), refresh=True)
        elif self._beats % 20 == 1:
            print(f"page {self.demo.page} · {_progress(truck, status)}", file=sys.stderr, flush=True)

    def _truck(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"{self.demo.page.rstrip('/')}/api/trucks", timeout=API_SECONDS) as answer:
                trucks = json.load(answer)["trucks"]
        except (OSError, http.client.HTTPException, ValueError) as error:  # not there, cut off, or half an answer
            self.words = f"the center does not answer: {error}"
            return {}
        found: dict[str, Any] = next((truck for truck in trucks if truck["truck"] == self.demo.options.truck), {})
        return found

    def _draw(self, truck: dict[str, Any], status: dict[str, Any]) -> RenderableType:
        table = Table(width=WIDTH, title=f"{self.demo.options.truck} as the center sees it", title_justify="left", pad_edge=False, box=None)
        table.add_column("quantity", style="cyan", no_wrap=True)
        table.add_column("value", justify="right", no_wrap=True)
        table.add_column("unit", no_wrap=True)
        table.add_column("age", justify="right", no_wrap=True)
        table.add_column("raw", justify="right", overflow="ellipsis", no_wrap=True, style="dim", max_width=RAW_WIDTH)
        values = truck.get("values", {})
        for quantity_id in TEN:
            table.add_row(*_row(quantity_id, values.get(quantity_id)))
        lines = [
            Text(f"{_progress(truck, status)}"),
            Text(f"page: {self.demo.page}   (Ctrl-C ends the demo and removes everything)", style="bold"),
        ]
        return Group(table, Text(), *lines, Text(self.words, style="dim"))

    def summary(self, result: dict[str, Any]) -> None:
        """What arrived, at the end."""
        table = Table(width=WIDTH, title="arrived at the center", title_justify="left", pad_edge=False, box=None)
        table.add_column("quantity", no_wrap=True)
        table.add_column("count", justify="right")
        table.add_column("last", justify="right", no_wrap=True)
        table.add_column("largest error", justify="right", no_wrap=True)
        table.add_column("unit", no_wrap=True)
        for quantity_id, row in result["quantities"].items():
            quantity = BY_ID[quantity_id]
            last = "-" if row["last"] is None else f"{quantity.display.shown(row['last']):.{quantity.decimals}f}"
            error = "-" if row["max_abs_error"] is None else f"{row['max_abs_error'] * quantity.display.factor:.2g}"
            table.add_row(quantity.name, str(row["count"]), last, error, quantity.display.unit)
        segments, imu, frames = result["segments"], result["imu"], result["head_frames"]
        self.console.print(table)
        self.console.print(
            f"images {result['images']} · segments announced {segments['announced']}, receipted {segments['receipted']} · "
            f"gaps {len(result['gaps'])}\nIMU samples: chip {imu['chip_samples']}, center {imu['center_samples']} · "
            f"head frames missing {frames['missing']}, repeated {frames['repeated']} · wall time {result['wall_time_s']} s",
            highlight=False,
        )
        for gap in result["gaps"][:10]:
            self.console.print(f"gap  {gap}", highlight=False, markup=False)
        if result["missing"]:
            self.console.print(f"did not arrive: {', '.join(result['missing'])}", style="red", highlight=False)
        for line in result["wrong"]:
            self.console.print(f"wrong  {line}", style="red", highlight=False, markup=False)
        if result["ok"]:
            self.console.print("everything arrived", style="green", highlight=False)


def _row(quantity_id: str, live: dict[str, Any] | None) -> tuple[str, str, str, str, str]:
    quantity = BY_ID[quantity_id]
    if live is None:
        return quantity.name, "-", quantity.display.unit, "-", ""
    value = escape(str(live["reason"])) if live["value"] is None else f"{quantity.display.shown(live['value']):.{quantity.decimals}f}"
    return quantity.name, value, quantity.display.unit, f"{live['age_s']:.1f} s", escape(live["raw"] or "")


def _progress(truck: dict[str, Any], status: dict[str, Any]) -> str:
    counts = status.get("segments", {})
    position = truck.get("position")
    where = f"{position['latitude']:.6f} {position['longitude']:.6f}" if position else "no position yet"
    return (
        f"{where} · images {truck.get('images', 0)} · backlog {status.get('backlog_bytes', 0) / 1e6:.1f} MB in "
        f"{status.get('backlog_segments', 0)} segments · receipts {counts.get('receipted', 0)}"
    )
