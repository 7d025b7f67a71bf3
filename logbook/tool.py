"""`cruisers segment`: look at segment files, check and recover them, export what they hold. Never touches a file being written.

Exit codes, as `mcap recover` has them: 0 clean, 1 failed (or something is wrong), 2 usage, 3 done, and something is missing."""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from google.protobuf.json_format import MessageToDict
from google.protobuf.text_format import MessageToString
from rich.console import Console
from rich.table import Table

from logbook import block, channels, files
from logbook.progress import bar
from logbook.reader import Message, SegmentError, info, read, verify
from logbook.recovery import DAMAGED_SUFFIX, SEGMENT_SUFFIX, Busy, Report, recover
from logbook.segment_writer import OPEN_SUFFIX

if TYPE_CHECKING:
    from logbook.export import Report as Exported
    from logbook.export import Wanted

FAILED = 1
USAGE = 2
LOSS = 3

BEING_WRITTEN = "being written"
NOT_SEALED = "not sealed"
SEALED = "sealed"
SET_ASIDE = "set aside"

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Segment files: what a truck has written down.")

Paths = Annotated[list[Path], typer.Argument(metavar="PATH...", help="Segment files, or folders such as a spool.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line instead of text for people.")]


@app.command("ls")
def list_segments(paths: Paths, as_json: Json = False) -> None:
    """List segments: state, chunks, messages, time span (s), size.

    Example: cruisers segment ls /var/spool/cruisers
    """
    rows = [_row(path) for path in _segments(paths)]
    if as_json:
        _print_json(rows)
    else:
        table = Table("segment", "state", box=None, pad_edge=False)
        for heading in ("chunks", "messages", "seconds", "kB"):
            table.add_column(heading, justify="right")
        for row in rows:
            if row["problem"]:
                table.add_row(_short(row["path"]), f"{row['state']}: {row['problem']}")
            else:
                span = f"{(row['last_time'] - row['first_time']) / 1e9:.1f}"
                total = str(sum(row["messages"].values()))
                table.add_row(_short(row["path"]), row["state"], str(row["chunks"]), total, span, f"{row['bytes'] / 1000:.0f}")
        Console().print(table)
    if any(row["problem"] for row in rows):
        raise typer.Exit(FAILED)


@app.command("cat")
def print_messages(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A segment file, sealed or open.")],
    topic: Annotated[list[str] | None, typer.Option("--topic", help="Only this topic; may be repeated.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=0, help="At most so many messages.")] = None,
    as_json: Json = False,
) -> None:
    """Print the messages of all whole chunks: boot time (s), topic, content.

    Example: cruisers segment cat 000001-readings.mcap --topic /event --topic /gap
    """
    if not path.is_file():
        _refuse(f"{path}: no such file")
    try:
        chosen = (message for message in read(path) if not topic or message.topic in topic)
        for message in islice(chosen, limit):
            if as_json:
                _print_json([_as_dict(message)])
            else:
                print(f"{message.log_time / 1e9:14.6f} {message.topic:16} {_as_text(message)}")
    except (OSError, SegmentError) as error:
        _fail(str(error))


@app.command("doctor")
def check_segments(paths: Paths, as_json: Json = False) -> None:
    """Check every mark, checksum and message of sealed segments; name open ones that wait for recovery.

    Example: cruisers segment doctor /var/spool/cruisers
    """
    results: list[dict[str, Any]] = []
    found = _segments(paths)
    with bar() as progress:
        progress.begin("checking", sum(map(_size, found)))
        for path in found:
            try:
                state = _state(path)
                problems = [state] if state == BEING_WRITTEN else verify(path)
            except OSError as error:
                state, problems = "unreadable", [str(error)]
            results.append({"path": str(path), "state": state, "problems": problems})
            progress.done(_size(path))
    # A file being written is no illness in a spool; it is one where it was named.
    ill = [result for result in results if result["problems"] and (result["state"] != BEING_WRITTEN or _named(result["path"], paths))]
    if as_json:
        _print_json(results)
    else:
        for result in results:
            print(f"{_short(result['path'])}: {'; '.join(result['problems']) or 'whole'}")
        print(f"{len(results)} segments, {len(ill)} not whole")
    if ill:
        raise typer.Exit(FAILED)


@app.command("recover")
def recover_segments(paths: Paths, as_json: Json = False) -> None:
    """Seal what a dead recorder left open, keeping every whole chunk. Sealed files and files being written are left alone.

    Example: cruisers segment recover /var/spool/cruisers
    """
    reports: list[Report] = []
    failed = False
    found = _segments(paths)
    sealed = [path for path in found if not path.name.endswith(OPEN_SUFFIX) and _named(str(path), paths)]
    if sealed:
        _refuse(f"{sealed[0]}: is not an open segment")
    left_open = [path for path in found if path.name.endswith(OPEN_SUFFIX)]
    with bar() as progress:
        progress.begin("recovering", sum(map(_size, left_open)))
        for path in left_open:
            size = _size(path)
            try:
                reports.append(recover(path))
            except Busy as error:
                failed = failed or _named(str(path), paths)
                print(f"{error}: left alone", file=sys.stderr)
            except OSError as error:
                failed = True
                print(f"{path}: {error}", file=sys.stderr)
            progress.done(size)
    if as_json:
        _print_json(_report_dict(report) for report in reports)
    else:
        for report in reports:
            counts = f"{report.kept_chunks} chunks kept, {report.damaged_chunks} damaged, {report.cut_bytes} bytes cut"
            print(f"{_short(str(report.path))}: {report.reason}; {counts}")
        print(f"{len(reports)} recovered" if reports else "nothing to recover")
    if failed or not all(report.recovered for report in reports):
        raise typer.Exit(FAILED)
    if not all(report.lossless for report in reports):
        raise typer.Exit(LOSS)


@app.command("export")
def export_segments(
    paths: Paths,
    parquet: Annotated[Path | None, typer.Option(metavar="DIR", help="A Parquet file a table, units in the fields' metadata.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="DIR", help="A CSV file a table, units in the header.")] = None,
    gpx: Annotated[Path | None, typer.Option(metavar="FILE", help="The trucks' tracks, in a new segment behind each gap.")] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The pictures, and index.csv. People can be recognised in them: personal data.")
    ] = None,
    compact: Annotated[
        bool, typer.Option("--compact", help="The IMU as raw numbers only, with how to read them: less than half the size.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object that says what was done.")] = False,
) -> None:
    """Write what segments hold as tables, tracks and pictures, in the order of time, each message once.

    Tables: imu, one for each slow sensor, position, event, gap, health, clock,
    trim, box_frames. Each row has UTC (by the best clock of its boot in these
    segments, empty without one), boot time, numbers in SI units or the reason
    why there is none, the raw ones beside them, truck, boot and segment.

    Example: cruisers segment export /var/spool/cruisers --parquet tables --gpx tracks.gpx
    """
    # Only here: the other sub-commands need not wait until Arrow and the image codecs are loaded.
    from logbook.export import Wanted, export
    from logbook.export_files import Exists

    wanted = Wanted(parquet, csv, gpx, images, compact, force)
    if not any((parquet, csv, gpx, images)):
        _refuse("export to what? --parquet, --csv, --gpx or --images")
    chosen: list[Path] = []
    skipped: list[Path] = []
    try:
        for path in _segments(paths):
            state = _state(path)
            (skipped if state == BEING_WRITTEN else chosen).append(path)
            if state in (BEING_WRITTEN, NOT_SEALED):
                print(f"{path}: {state}: {'skipped' if state == BEING_WRITTEN else 'read as it is'}", file=sys.stderr)
        with bar() as progress:
            report = export(chosen, wanted, progress.begin, progress.done)
    except Exists as error:
        _refuse(str(error))
    except OSError as error:
        _fail(str(error))
    for note in report.losses.notes:
        print(note, file=sys.stderr)
    lost = {name: count for name, count in vars(report.losses).items() if name != "notes" and count}
    if lost:
        print(f"missing: {'; '.join(f'{_LOST[name]}: {count}' for name, count in lost.items())}", file=sys.stderr)
    if as_json:
        _print_json([_exported(report, skipped, lost)])
    else:
        _tell(report, wanted)
    if any(_named(str(path), paths) for path in skipped):
        raise typer.Exit(FAILED)
    if lost:
        raise typer.Exit(LOSS)


_LOST = {
    "unreadable": "files that cannot be read",
    "damaged": "damaged stretches of files",
    "messages": "messages without sense",
    "images": "pictures that are not the camera's bytes",
    "gaps": "gaps told by the trucks (table gap)",
}


def _tell(report: "Exported", wanted: "Wanted") -> None:
    """What was exported, for people."""
    table = Table("table", box=None, pad_edge=False)
    table.add_column("rows", justify="right")
    for name, count in report.rows.items():
        table.add_row(name, f"{count:,}")
    if report.rows and (wanted.parquet or wanted.csv):
        Console().print(table)
    if wanted.gpx:
        unknown = f", {report.without_time} left out: their UTC is not known" if report.without_time else ""
        print(f"{report.points} points in {wanted.gpx}{unknown}")
    if wanted.images:
        print(f"{report.images} pictures in {wanted.images}")
    print(f"{report.segments} segments exported")


def _exported(report: "Exported", skipped: list[Path], lost: dict[str, int]) -> dict[str, Any]:
    """The same for machines."""
    told = {name: value for name, value in vars(report).items() if name != "losses"}
    paths = {"files": list(map(str, report.files)), "skipped": list(map(str, skipped))}
    return {**told, **paths, "missing": lost, "notes": report.losses.notes}


def _size(path: Path) -> int:
    """Bytes of a file; 0 where it cannot be asked."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _segments(paths: list[Path]) -> list[Path]:
    """The named files and the segments in the named folders, sorted by path."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found.extend(sorted(path.rglob(f"*{SEGMENT_SUFFIX}*")))
        elif path.is_file():
            found.append(path)
        else:
            _refuse(f"{path}: no such file or folder")
    return found


def _named(path: str, paths: list[Path]) -> bool:
    return Path(path) in paths


def _state(path: Path) -> str:
    if DAMAGED_SUFFIX in path.name:
        return SET_ASIDE
    if not path.name.endswith(OPEN_SUFFIX):
        return SEALED
    return BEING_WRITTEN if files.is_locked(path) else NOT_SEALED


def _row(path: Path) -> dict[str, Any]:
    try:
        return {"path": str(path), "state": _state(path), "problem": "", **info(path)._asdict()}
    except SegmentError as error:
        return {"path": str(path), "state": _state(path), "problem": str(error).removeprefix(f"{path}: ")}
    except OSError as error:
        return {"path": str(path), "state": "unreadable", "problem": error.strerror}


def _short(path: str) -> str:
    """Folder and name: enough to tell segments apart in 80 columns."""
    return "/".join(Path(path).parts[-2:]).replace(SEGMENT_SUFFIX, "")


def _as_text(message: Message) -> str:
    if isinstance(message.message, CompressedImage):
        return f"{message.message.format}, {len(message.message.data)} bytes"
    if message.message is not None:
        return MessageToString(message.message, as_one_line=True)
    if message.topic == channels.IMU_BLOCK:
        boot, times, columns = _block(message)
        return f"head {boot:08x}, {len(times)} samples of {columns.shape[1]} columns in {int(times[-1] - times[0]) / 1e9:.3f} s"
    return f"{len(message.data)} bytes"


def _as_dict(message: Message) -> dict[str, Any]:
    result: dict[str, Any] = {
        "topic": message.topic,
        "log_time": message.log_time,
        "publish_time": message.publish_time,
        "sequence": message.sequence,
        "bytes": len(message.data),
    }
    if message.topic == channels.IMU_BLOCK:
        boot, times, columns = _block(message)
        result["block"] = {"head_boot": boot, "boottime_ns": times.tolist(), "columns": columns.T.tolist()}
    elif isinstance(message.message, CompressedImage):
        result["message"] = {"format": message.message.format, "frame_id": message.message.frame_id}
    elif message.message is not None:
        result["message"] = MessageToDict(message.message, preserving_proto_field_name=True)
    return result


def _block(message: Message) -> tuple[int, Any, Any]:
    try:
        return block.decode(message.data)
    except block.BlockError as error:
        raise SegmentError(f"{message.topic} at {message.log_time}: {error}") from error


def _report_dict(report: Report) -> dict[str, Any]:
    gaps = [MessageToDict(gap, preserving_proto_field_name=True) for gap in report.gaps]
    return {**vars(report), "path": str(report.path), "gaps": gaps, "lossless": report.lossless}


def _print_json(rows: Iterable[dict[str, Any]] | Iterator[dict[str, Any]]) -> None:
    for row in rows:
        print(json.dumps(row, ensure_ascii=False))


def _refuse(line: str) -> None:
    print(line, file=sys.stderr)
    raise typer.Exit(USAGE)


def _fail(line: str) -> None:
    print(line, file=sys.stderr)
    raise typer.Exit(FAILED)


if __name__ == "__main__":
    app()
