"""`cruisers segment`: look at segment files, check them, recover what a dead recorder left. Never touches a file being written.

Exit codes, as `mcap recover` has them: 0 clean, 1 failed (or something is wrong), 2 usage, 3 recovered with loss."""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from google.protobuf.json_format import MessageToDict
from google.protobuf.text_format import MessageToString
from rich.console import Console
from rich.table import Table

from logbook import block, channels, files
from logbook.reader import Message, SegmentError, info, read, verify
from logbook.recovery import DAMAGED_SUFFIX, SEGMENT_SUFFIX, Busy, Report, recover
from logbook.segment_writer import OPEN_SUFFIX

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
    """List segments: state, chunks, messages, time span (s), size."""
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
    """Print the messages of all whole chunks: boot time (s), topic, content."""
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
    """Check every mark, checksum and message of sealed segments; name open ones that wait for recovery."""
    results: list[dict[str, Any]] = []
    for path in _segments(paths):
        try:
            state = _state(path)
            problems = [state] if state == BEING_WRITTEN else verify(path)
        except OSError as error:
            state, problems = "unreadable", [str(error)]
        results.append({"path": str(path), "state": state, "problems": problems})
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
    """Seal what a dead recorder left open, keeping every whole chunk. Sealed files and files being written are left alone."""
    reports: list[Report] = []
    failed = False
    for path in _segments(paths):
        if not path.name.endswith(OPEN_SUFFIX):
            if _named(str(path), paths):
                _refuse(f"{path}: is not an open segment")
            continue
        try:
            reports.append(recover(path))
        except Busy as error:
            failed = failed or _named(str(path), paths)
            print(f"{error}: left alone", file=sys.stderr)
        except OSError as error:
            failed = True
            print(f"{path}: {error}", file=sys.stderr)
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
