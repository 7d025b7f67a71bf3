"""What the doctor found, for people within 80 columns and for machines as JSON."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from fleet.doctor import Result
from fleet.doctor_finding import COLOURS, GREEN, GREY, RED, YELLOW, say
from fleet.doctor_words import text

STYLES = {GREEN: "green", YELLOW: "yellow", RED: "bold red", GREY: "bright_black"}
NAME_WIDTH = 9


def table(truck: str, results: Sequence[Result], language: str) -> RenderableType:
    """One line a finding, and below it what to do."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, min_width=NAME_WIDTH)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for result in results:
        name = text(say(f"check_{result.name}"), language)
        for finding in result.findings:
            style = STYLES[finding.colour]
            grid.add_row(
                f"[bold]{name}[/]", f"[{style}]{text(say(f'mark_{finding.colour}'), language)}[/]", escape(text(finding.saw, language))
            )
            name = ""
            if finding.do is not None:
                grid.add_row("", "", f"[italic]{escape(text(say('do'), language))} {escape(text(finding.do, language))}[/]")
    return Group(grid, "", _sum(truck, results, language))


def _sum(truck: str, results: Sequence[Result], language: str) -> str:
    """The last line: what a technician reads first."""
    counts = Counter(result.colour for result in results)
    told = [text(say(f"sum_{colour}", count=counts[colour]), language) for colour in reversed(COLOURS) if counts[colour]]
    worst = max((result.colour for result in results), key=COLOURS.index, default=GREY)
    return f"[bold]{escape(truck)}[/]: [{STYLES[worst]}]{', '.join(told)}[/]"


def as_dict(truck: str, results: Sequence[Result], language: str) -> dict[str, Any]:
    """Everything for machines. `key` and `do_key` name the sentence whatever the language."""
    worst = max((result.colour for result in results), key=COLOURS.index, default=GREY)
    checks = []
    for result in results:
        findings = [
            {
                "colour": finding.colour,
                "key": finding.saw.key,
                "saw": text(finding.saw, language),
                "do_key": None if finding.do is None else finding.do.key,
                "do": None if finding.do is None else text(finding.do, language),
            }
            for finding in result.findings
        ]
        checks.append({"name": result.name, "colour": result.colour, "seconds": round(result.seconds, 3), "findings": findings})
    return {"truck": truck, "colour": worst, "checks": checks}
