"""`cruisers head update`: the command (gateway/head_update.py does the work).

Exit codes: 0 done, or up to date; 1 failed: the head runs what it ran before, or the new version until its trial is over; 2 bad input,
nothing was changed; 3 not now: the truck works, or nobody knows whether it does."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.head_update import InputError, NotNow, Request, Updated, UpdateFailed, request
from gateway.head_update import update as bring_up_to_date

FAILED, BAD_INPUT, NOT_NOW = 1, 2, 3
_KINDS: dict[type[Exception], tuple[int, str, str]] = {  # exit code, word for machines, words for people
    UpdateFailed: (FAILED, "failed", "failed (the same again completes it): "),
    InputError: (BAD_INPUT, "bad input", ""),
    NotNow: (NOT_NOW, "not now", "not now: "),
}


def update(
    image: Annotated[Path, typer.Argument(help="The signed image (cruisers image make).")],
    config: Annotated[Path, typer.Option(metavar="FILE", help="The truck's TOML file.")] = Path("/etc/cruisers/truck.toml"),
    downgrade: Annotated[bool, typer.Option("--downgrade", help="Take an image that is older than what the head runs.")] = False,
    parked: Annotated[bool, typer.Option("--parked", help="The truck is parked, though no switch says so.")] = False,
    json_out: Annotated[bool, typer.Option("--json", help="One JSON object instead of a bar and a line.")] = False,
) -> None:
    """Bring the head of this truck up to date over its serial link, while the truck is parked, and prove it.

    Interrupted anywhere, the same command completes it; a head that has the image is left alone.

    Exit codes: 0 done or up to date, 1 failed, 2 bad input, 3 not now.

    Example: cruisers head update head-1.1.0.image --config /etc/cruisers/truck.toml
    """
    try:
        wanted = request(image, config, downgrade=downgrade, parked=parked)
        done = bring_up_to_date(wanted, lambda *_: None) if json_out else _with_bar(wanted)
    except (InputError, NotNow, UpdateFailed) as error:
        _end(error, json_out)
    if json_out:
        outcome = "updated" if done.written else "up to date"
        print(json.dumps({"outcome": outcome, "why": "", **asdict(done)}, indent=1, ensure_ascii=False))
    else:
        print(_said(done))
    if done.note:
        print(f"cruisers head update: not kept for the next time: {done.note}", file=sys.stderr)


def _said(done: Updated) -> str:
    if not done.written:
        how = "every file was hashed" if done.reset else "known without a reset"
        return f"unit {done.unit}: up to date with {done.version}, nothing written ({how})"
    return f"unit {done.unit}: {done.before or '?'} -> {done.version}, {done.written} files written, proved"


def _end(error: Exception, json_out: bool) -> NoReturn:
    code, word, words = _KINDS[type(error)]
    if json_out:
        about: dict[str, Any] = {"outcome": word, "why": str(error)}
        print(json.dumps(about, indent=1, ensure_ascii=False))
    print(f"cruisers head update: {words}{error}", file=sys.stderr)
    raise typer.Exit(code)


def _with_bar(wanted: Request) -> Updated:
    columns = (TextColumn("{task.description:<14}"), BarColumn(24), TextColumn("{task.fields[stage]:<10}"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(f"head {wanted.image.version}", total=1.0, stage="")
        return bring_up_to_date(wanted, lambda stage, part: progress.update(bar, completed=part, stage=stage))
