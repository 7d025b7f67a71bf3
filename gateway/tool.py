"""`cruisers status`: how a truck's uplink and disk are, for a technician in front of it or on a slow line to it.

Exit codes: 0 all is well, 1 something is wrong (it says what), 2 bad input."""

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from gateway.config import ConfigError
from gateway.config import load as load_config
from gateway.ending import Ending
from gateway.status import LOSSES, BadStatus, Process, Report, age_text, load
from sox.times import xep0082

WRONG = 1
BAD_INPUT = 2
WATCH_SECONDS = 1.0
_LOOK_SECONDS = 0.05  # whether it is to end


def status(
    spool: Annotated[Path | None, typer.Option(metavar="DIR", help="The truck's spool folder.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="The truck's TOML file, which names the spool.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again every second, until Ctrl-C.")] = False,
) -> None:
    """What waits, what is lost, over which link it goes, what is wrong now. Exit code 1 if something is wrong.

    Example: cruisers status --config /etc/cruisers/truck.toml
    """
    try:
        folder = _spool(spool, config)
        found = _watch(folder, as_json) if watch else load(folder)
    except (BadStatus, ConfigError) as error:
        print(f"cruisers status: {error}", file=sys.stderr)
        raise typer.Exit(BAD_INPUT) from None
    if not watch:
        _print_json(found) if as_json else Console(soft_wrap=False).print(table(found))
    raise typer.Exit(WRONG if found.wrong else 0)


def _spool(spool: Path | None, config: Path | None) -> Path:
    if (spool is None) == (config is None):
        raise BadStatus("say either --spool DIR or --config FILE")
    return spool if spool is not None else Path(load_config(config or "").spool)


def _watch(folder: Path, as_json: bool) -> Report:
    """Until Ctrl-C; the last report."""
    found = load(folder)
    with Ending() as ending, contextlib.ExitStack() as shown:
        live = None if as_json else shown.enter_context(Live(table(found), auto_refresh=False))
        while not ending.wished:
            if live is None:
                _print_json(found)
            else:
                live.update(table(found), refresh=True)
            again = time.monotonic() + WATCH_SECONDS
            while not ending.wished and time.monotonic() < again:
                time.sleep(_LOOK_SECONDS)
            found = load(folder)
    return found


def _print_json(found: Report) -> None:
    print(json.dumps(as_dict(found)), flush=True)


def as_dict(found: Report) -> dict[str, Any]:
    """The report for machines: its fields, with the status files as they are."""
    told = found._asdict()
    return told | {name: told[name]._asdict() for name in ("uplink", "sweeper")}


def table(found: Report) -> Group:
    """The report for people, within 80 columns."""
    says = found.uplink.says or {}
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("truck", escape(found.truck or "?") + (" (parked)" if (says.get("recorder") or {}).get("parked") else ""))
    facts.add_row("status", f"uplink {_process(found.uplink)}, sweeper {_process(found.sweeper)}")
    facts.add_row("hub", "connected" if says.get("connected") and found.uplink.runs else "not connected")
    facts.add_row("link", escape(_link(found)))
    facts.add_row("last receipt", _receipt(found))
    facts.add_row("backlog", _backlog(found))
    facts.add_row("oldest unsent", escape(_oldest(found)))
    if (free := says.get("disk_free_bytes")) is not None:
        facts.add_row("disk free", f"{gigabytes(free)} GB")
    classes = Table("class", box=None, pad_edge=False)
    for heading in ("segments", "GB"):
        classes.add_column(heading, justify="right")
    for name, one in found.backlog.items():
        classes.add_row(name, str(one["segments"]), gigabytes(one["bytes"]))
    losses = Table("lost", box=None, pad_edge=False)
    losses.add_column("count", justify="right")
    for reason, meaning in LOSSES.items():
        losses.add_row(meaning, str(found.losses[reason]))
    wrong = Table("[bold red]wrong now[/]" if found.wrong else "[green]nothing is wrong[/]", box=None, pad_edge=False)
    for line in found.wrong:
        wrong.add_row(escape(line))
    return Group(facts, "", classes, "", losses, "", wrong)


def _process(process: Process) -> str:
    if process.says is None:
        return "never seen"
    age = age_text(process.age_s)
    return f"{age} ago" if process.runs else f"[red]not running[/], {age}" + (" ago" if process.age_s is not None else "")


def _link(found: Report) -> str:
    link = found.link
    if not link:
        return "not known"
    return f"{link.get('class') or 'none'} {link.get('interface') or ''}".rstrip() + (f": {link['why']}" if link.get("why") else "")


def _receipt(found: Report) -> str:
    receipt = found.last_receipt
    if receipt is None:
        return "none since the uplink started"
    age = f"{age_text(found.last_receipt_age_s)} ago" if found.last_receipt_age_s is not None else age_text(None)
    return f"{age}: {escape(receipt['outcome'])}" + (f", {escape(receipt['reason'])}" if receipt.get("reason") else "")


def _backlog(found: Report) -> str:
    if not (found.uplink.says or {}).get("classes"):
        return "not known"
    total = sum(one["bytes"] for one in found.backlog.values())
    text = f"{gigabytes(total)} GB"
    if not total:
        return text
    if found.hours is None:
        return f"{text}; no rate is known" if found.rate is None else f"{text}; nothing was receipted in the last 10 minutes of it"
    return f"{text}, {found.hours:.1f} h at {(found.rate or 0) * 8 / 1e6:.2f} Mbit/s"


def _oldest(found: Report) -> str:
    oldest = found.oldest
    if not oldest:
        return "none"
    since = f"{xep0082(oldest['utc_ns'])[:19]}Z" if oldest["utc_ns"] else "time not known"
    age = f" ({age_text(found.oldest_age_s)} ago)" if found.oldest_age_s is not None else ""
    return f"{since}{age}, {oldest['class']}"


def gigabytes(count: int) -> str:
    """Bytes in GB, three figures behind the point below 10."""
    return f"{count / 1e9:.3f}" if count < 10e9 else f"{count / 1e9:.1f}"
