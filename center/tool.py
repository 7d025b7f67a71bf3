"""`cruisers center query | pm25 | image | archive | rebuild`: what has come, and questions to it.

Beside a running center: questions and tables of what is there read only; `rebuild` waits for its turn among the workers.
Exit codes: 0 done, 1 failed, 2 usage."""

import contextlib
import datetime
import decimal
import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from rich.console import Console
from rich.table import Table

from center import clock
from center.archive import Archive, ArchiveError
from center.config import Center, ConfigError, load

if TYPE_CHECKING:
    from center.query import Answer, Asking

FAILED, BAD_INPUT = 1, 2
DEFAULT_CONFIG = Path("/etc/cruisers/center.toml")
NANO = 1_000_000_000

ConfigFile = Annotated[Path, typer.Option("--config", envvar="CRUISERS_CENTER", help="The center's TOML file.")]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


def query_command(sql: Annotated[str, typer.Argument(metavar="SQL")], json_out: Json = False, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Ask the archive's tables in DuckDB's SQL; without FROM, `SHOW TABLES` says which there are.

    Example: cruisers center query "SELECT truck, count(*) FROM position WHERE date = utc_date() - 1 GROUP BY truck"
    """
    with _asking("query", config) as (asking, _):
        _show(_answered("query", lambda: asking.ask(sql)), json_out)


def pm25_command(
    truck: Annotated[str, typer.Option(help="The truck's name.")],
    date: Annotated[str, typer.Option(help="2026-11-22, today or yesterday, in the center's zone.")] = "yesterday",
    zone: Annotated[str | None, typer.Option(help="Another zone than the configuration's, e.g. Asia/Tokyo.")] = None,
    json_out: Json = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """PM2.5 of one truck on one day by street cell of about 50 m, the worst first.

    Example: cruisers center pm25 --truck truck-14 --date yesterday
    """
    with _asking("pm25", config) as (asking, center):
        first, last = _day(date, zone or center.zone)
        answer = _answered("pm25", lambda: asking.pm25(truck, first, last))
        if not answer.rows and not json_out:
            print(f"no PM2.5 with a place of {truck} from {first} to {last} UTC")
            return
        _show(answer, json_out)


def image_command(
    segment: Annotated[str, typer.Argument(help="`segment` of a row of the table images.")],
    camera: Annotated[str, typer.Argument(help="Its `camera`.")],
    boottime_ns: Annotated[int, typer.Argument(help="Its `boottime_ns`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to; must not be there.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Write one picture of the archive as a file, bit for bit as the camera made it.

    Example: cruisers center image truck-14-0123abcd-89ab4567-000012-images front 5000000000 -o street.jpg
    """
    from center.query_picture import NoPicture, picture
    from logbook.images import NotRestored

    with _looking("image", config) as (archive, _):
        try:
            jpeg = picture(archive, segment, camera, boottime_ns)
            with output.open("xb") as file:
                file.write(jpeg)
        except FileExistsError:
            _end("image", f"{output}: exists already", BAD_INPUT)
        except (NoPicture, NotRestored, OSError) as error:
            _end("image", str(error), FAILED)


def archive_command(json_out: Json = False, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """What is in the archive: segments of each truck, and what waits to be tabled.

    Example: cruisers center archive
    """
    from center.tables_books import Books

    with _looking("archive", config) as (archive, center):
        trucks = sorted({*center.trucks, *(row[0] for row in archive.index.rows("SELECT DISTINCT truck FROM segments"))})
        found = {truck: archive.counts(truck)._asdict() for truck in trucks}
        try:
            waiting, again = Books(archive.index).waiting()
        except sqlite3.OperationalError:  # no worker has come yet
            waiting, again = sum(row["stored"] for row in found.values()), 0
    if json_out:
        print(json.dumps({"trucks": found, "to_table": waiting, "to_table_again": again}, indent=1))
        return
    table = Table("truck", box=None, pad_edge=False)
    for heading in ("segments", "receipted", "MB", "pictures", "refused"):
        table.add_column(heading, justify="right")
    for truck, row in found.items():
        numbers = (row["stored"], row["receipted"], round(row["bytes"] / 1e6), row["pictures"], row["refused"])
        table.add_row(truck, *(f"{number:,}" for number in numbers))
    Console().print(table)
    print(f"to be tabled: {waiting:,} segments, and {again:,} again with a better time or place")


def list_command(
    truck: Annotated[str | None, typer.Argument(help="Of this truck only.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many.")] = 20,
    json_out: Json = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """List the segments that came last.

    Example: cruisers center ls truck-14 --limit 100
    """
    with _looking("ls", config) as (archive, _):
        found = archive.newest(truck, limit)
    if json_out:
        print(json.dumps([segment._asdict() for segment in found], indent=1))
        return
    table = Table("segment", "stored (UTC)", box=None, pad_edge=False)
    table.add_column("kB", justify="right")
    table.add_column("receipt")
    for one in found:
        stored = datetime.datetime.fromtimestamp(one.stored_utc_ns / NANO, datetime.UTC).strftime("%m-%d %H:%M:%S")
        table.add_row(one.segment_id, stored, f"{one.size / 1000:,.0f}", "yes" if one.receipted_utc_ns else "no")
    Console().print(table)


def rebuild_command(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Throw all tables away and make them anew from the segments, beside the running center.

    Example: cruisers center rebuild
    """
    from center.tables import Tables
    from center.tables_delta import DeltaError
    from center.tables_turn import turn

    center = _config("rebuild", config)
    try:
        with contextlib.closing(Archive.join(center.store(), center.quarantine_bytes, center.state_folder)) as archive:
            print("waiting for the batch under way ...", file=sys.stderr)
            with turn(archive, wait=True):
                tables = Tables(archive, held_s=0.0)
                tables.rebuild()
                total = sum(tables.books.waiting())
                while tables.table(center.tables.segments):
                    print(f"{total - tables.books.waiting()[0]:,} of {total:,} segments", file=sys.stderr)
    except (ConfigError, ArchiveError, OSError, DeltaError, sqlite3.Error) as error:
        _end("rebuild", str(error), FAILED)


def add_to(app: typer.Typer) -> None:
    """Make these commands sub-commands of `app`."""
    app.command("query")(query_command)
    app.command("pm25")(pm25_command)
    app.command("image")(image_command)
    app.command("archive")(archive_command)
    app.command("ls")(list_command)
    app.command("rebuild")(rebuild_command)


def _config(command: str, config: Path) -> Center:
    try:
        return load(config)
    except ConfigError as error:
        _end(command, str(error), BAD_INPUT)


@contextlib.contextmanager
def _looking(command: str, config: Path) -> Iterator[tuple[Archive, Center]]:
    center = _config(command, config)
    try:
        archive = Archive.look(center.store(), center.state_folder)
    except (ConfigError, ArchiveError) as error:
        _end(command, str(error), BAD_INPUT)
    with contextlib.closing(archive):
        yield archive, center


@contextlib.contextmanager
def _asking(command: str, config: Path) -> Iterator[tuple["Asking", Center]]:
    from center.query import Asking
    from center.tables_delta import DeltaError

    with _looking(command, config) as (archive, center):
        try:
            asking = Asking(archive)
        except (OSError, DeltaError) as error:
            _end(command, str(error), FAILED)
        with contextlib.closing(asking):
            yield asking, center


def _answered(command: str, ask: Any) -> "Answer":
    from center.query import QueryError

    try:
        return ask()
    except QueryError as error:
        _end(command, str(error), BAD_INPUT)


def _day(text: str, zone: str) -> tuple[str, str]:
    """(begin, end) of a day in a zone, in UTC."""
    try:
        where = ZoneInfo(zone)
        today = datetime.datetime.fromtimestamp(clock.utc_ns() / NANO, where).date()
        named = {"today": today, "yesterday": today - datetime.timedelta(days=1)}
        day = named[text] if text in named else datetime.date.fromisoformat(text)
    except (ValueError, ZoneInfoNotFoundError) as error:
        _end("pm25", f"--date {text!r} in {zone!r}: {error}", BAD_INPUT)
    ends = [datetime.datetime.combine(date, datetime.time(), where) for date in (day, day + datetime.timedelta(days=1))]
    first, last = (end.astimezone(datetime.UTC).replace(tzinfo=None).isoformat() for end in ends)
    return first, last


def _show(answer: "Answer", json_out: bool) -> None:
    if json_out:
        print(json.dumps([dict(zip(answer.names, row, strict=True)) for row in answer.rows], indent=1, default=_plain, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False)
    for name, values in zip(answer.names, zip(*answer.rows, strict=True) if answer.rows else ((),) * len(answer.names), strict=True):
        table.add_column(name, justify="right" if all(isinstance(value, int | float | None) for value in values) else "left")
    for row in answer.rows:
        table.add_row(*(_text(value) for value in row))
    console = Console(width=None if sys.stdout.isatty() else max(80, int(os.environ.get("COLUMNS", "200"))))
    console.print(table)


def _text(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    return f"{value:.9g}" if isinstance(value, float) else str(_plain(value))


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, decimal.Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, datetime.datetime | datetime.date) else str(value)


def _end(command: str, text: str, code: int) -> NoReturn:
    print(f"cruisers center {command}: {' '.join(text.split())}", file=sys.stderr)
    raise typer.Exit(code)
