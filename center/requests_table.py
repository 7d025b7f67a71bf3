"""Requests and answers as people read them (80 columns) and as machines do."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from center.requests import Asked
from sox.documents import xep0082
from sox.requests import BOOKMARK, Answer, Request, wants_images

ROWS_MOST = 20  # segments shown; --json has all that the answer lists


def show(console: Console, asked: Asked) -> None:
    """One request with what became of it, and its segments."""
    console.print(f"{asked.truck}: {words(asked.request)}", highlight=False, soft_wrap=False)
    console.print(f"request {asked.request.request_id}: {state(asked.answer)}", highlight=False)
    if asked.answer is not None and (rows := _rows(asked.answer)):
        table = Table(box=None, pad_edge=False)
        table.add_column("segment", no_wrap=True)
        table.add_column("taken (UTC)", no_wrap=True)
        table.add_column("images", justify="right")
        table.add_column("MB", justify="right")
        table.add_column("")
        for row in rows[:ROWS_MOST]:
            table.add_row(*row)
        console.print(table, highlight=False)
        answer = asked.answer
        more = answer.segments + answer.gone_segments - len(rows[:ROWS_MOST])
        if more > 0:
            console.print(f"… and {more} segments more", highlight=False)


def show_list(console: Console, asked: Sequence[Asked]) -> None:
    """Many requests, one row each."""
    table = Table("truck", box=None, pad_edge=False)
    table.add_column("request", no_wrap=True)
    table.add_column("asked for")
    table.add_column("answer")
    for one in asked:
        table.add_row(one.truck, one.request.request_id, words(one.request), state(one.answer))
    console.print(table, highlight=False)


def words(request: Request) -> str:
    """What is asked."""
    said = ["bookmark"] if request.kind == BOOKMARK else []
    if wants_images(request):
        said.append("images")
    if request.from_utc_ns:
        said.append(f"from {_time(request.from_utc_ns)}")
    if request.to_utc_ns:
        said.append(f"to {_time(request.to_utc_ns)}")
    if request.place is not None:
        said.append(f"within {request.place.radius:g} m of {request.place.latitude:.5f},{request.place.longitude:.5f}")
    return " ".join(said)


def state(answer: Answer | None) -> str:
    """What became of it, in one line."""
    if answer is None:
        return "no answer yet (a truck that is away answers when it is back)"
    amount = ""
    if answer.segments or answer.gone_segments:
        amount = f", {answer.segments} segments ({answer.images} images, {answer.bytes / 1e6:.1f} MB), {answer.sent_segments} sent"
        amount += f", {answer.gone_segments} gone" if answer.gone_segments else ""
    return f"{answer.state}{amount}{f': {answer.reason}' if answer.reason else ''}"


def machine(asked: Asked) -> dict[str, Any]:
    """For `--json`. Times are XEP-0082 in UTC, null where unknown; sizes in bytes."""
    request, answer = asked.request, asked.answer
    return {
        "truck": asked.truck,
        "request": {
            "id": request.request_id,
            "kind": request.kind,
            "from": _xep0082(request.from_utc_ns),
            "to": _xep0082(request.to_utc_ns),
            "place": request.place._asdict() if request.place is not None else None,
            "asked": _xep0082(request.asked_utc_ns),
        },
        "answer": None if answer is None else _fields(answer._asdict()),
    }


def _fields(fields: dict[str, Any]) -> dict[str, Any]:
    lists = {name: [_fields(one._asdict()) for one in value] for name, value in fields.items() if isinstance(value, tuple)}
    times = {name.removesuffix("_utc_ns"): _xep0082(value) for name, value in fields.items() if name.endswith("_utc_ns")}
    plain = {name: value for name, value in fields.items() if name not in lists and not name.endswith("_utc_ns") and name != "request_id"}
    return {**plain, **times, **lists}


def _rows(answer: Answer) -> list[tuple[str, str, str, str, str]]:
    rows = []
    for held, what in [(one, "sent") for one in answer.sent] + [(one, "on the truck") for one in answer.exists]:
        thinned = f", 1 in {held.keep_every}" if held.keep_every > 1 else ""
        rows.append((_short(held.segment_id), _time(held.first_utc_ns), str(held.images), f"{held.bytes / 1e6:.1f}", what + thinned))
    rows += [(_short(gone.segment_id), _time(gone.first_utc_ns), "", "", gone.how) for gone in answer.gone]
    return sorted(rows, key=lambda row: (row[1], row[0]))


def _short(segment_id: str) -> str:
    """Boot, random part and number: the truck and the stream are known."""
    return "-".join(segment_id.split("-")[-4:-1])


def _time(utc_ns: int) -> str:
    return xep0082(utc_ns)[:19].replace("T", " ") if utc_ns else "unknown"


def _xep0082(utc_ns: int) -> str | None:
    return xep0082(utc_ns) if utc_ns else None
