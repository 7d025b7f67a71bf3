"""The center's page and its API: read-only, on loopback unless the operator says otherwise, nothing loaded from elsewhere.

/                              the page (Japanese first)          /events       its changes as server-sent events, 1 Hz
/api/trucks                    newest values in SI units          /api/segments?truck=&limit=      stored segments, newest first
/api/trucks/{truck}/image      newest picture, bytes as recorded  /api/status   the center itself
/api/live[?reset=1]            what came live, and how fast (since the last reset of these counts)
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from center import display, layout
from center.archive import Archive
from center.fleet_state import Fleet, TruckState, freshness
from center.link import Status
from logbook.quantities import BY_ID, TABLE

TICK_S = 1.0  # of the events: ages are shown in seconds
MAX_VIEWERS = 100  # open event streams; each costs a task and some kB
MAX_SEGMENTS = 1000  # in one answer of /api/segments
LOOPBACK = ["127.0.0.1", "localhost", "[::1]"]

HEADERS = [
    (b"content-security-policy", b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
                                 b" base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]  # fmt: skip


class Board:
    """What the page reads: the fleet, the archive, the link, the clock. `stopping` ends the event streams."""

    def __init__(self, fleet: Fleet, archive: Archive, status: Callable[[], Status], now_ns: Callable[[], int]) -> None:
        self.fleet, self.archive, self.status, self.now_ns = fleet, archive, status, now_ns
        self.stopping = asyncio.Event()
        self.viewers = 0
        self.page = layout.page(list(fleet.trucks))
        self.layout = hashlib.sha256((self.page + _asset("page.js") + _asset("page.css")).encode()).hexdigest()[:16]

    def fields(self) -> dict[str, str]:
        """All texts of the page now."""
        now, status = self.now_ns(), self.status()
        fields = display.hub_fields(status.connected, status.error, now, self.archive.free_bytes())
        for truck in self.fleet.trucks.values():
            fields |= display.truck_fields(truck, self.archive.counts(truck.name), now)
        return fields


def application(board: Board, http_host: str) -> Starlette:
    """The web application of `board`. On loopback it answers to loopback's names only, so that no foreign page can reach it by DNS."""
    routes = [
        Route("/", _Get(board, _home)),
        Route("/page.css", _Get(board, _asset_route("page.css", "text/css"))),
        Route("/page.js", _Get(board, _asset_route("page.js", "text/javascript"))),
        Route("/icon.svg", _Get(board, _asset_route("icon.svg", "image/svg+xml"))),
        Route("/events", _Get(board, _events)),
        Route("/api/trucks", _Get(board, _trucks)),
        Route("/api/trucks/{truck}/image", _Get(board, _image)),
        Route("/api/segments", _Get(board, _segments)),
        Route("/api/status", _Get(board, _status)),
        Route("/api/live", _Get(board, _live)),
    ]
    hosts = LOOPBACK if http_host in ("127.0.0.1", "::1", "localhost") else ["*"]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts), Middleware(_Headers)])


class _Get:
    """A route's endpoint: `answer(board, request)`."""

    def __init__(self, board: Board, answer: Callable[[Board, Request], Response]) -> None:
        self._board, self._answer = board, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if request.method not in ("GET", "HEAD"):
            response: Response = _words(405, "read only")
        else:
            response = self._answer(self._board, request)
        await response(scope, receive, send)


class _Headers:
    """Adds HEADERS to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
            await send(message)

        await self._app(scope, receive, with_headers)


def _words(status: int, error: str) -> Response:
    return JSONResponse({"error": error}, status_code=status)


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _asset_route(name: str, media_type: str) -> Callable[[Board, Request], Response]:
    return lambda board, request: Response(_asset(name), media_type=media_type)


def _events(board: Board, request: Request) -> Response:
    if board.viewers >= MAX_VIEWERS:
        return _words(503, f"already {MAX_VIEWERS} viewers")
    return StreamingResponse(_changes(board), media_type="text/event-stream")


async def _changes(board: Board) -> AsyncIterator[str]:
    """Every TICK_S the texts that differ from those sent before; the first time all. An empty change is the sign of life."""
    sent: dict[str, str] = {}
    board.viewers += 1
    try:
        while not board.stopping.is_set():
            fields = board.fields()
            changed = {key: text for key, text in fields.items() if sent.get(key) != text}
            sent = fields
            yield f"event: fields\ndata: {json.dumps({'layout': board.layout, 'fields': changed}, ensure_ascii=False)}\n\n"
            await _until(board.stopping, TICK_S)
    finally:
        board.viewers -= 1


async def _until(event: asyncio.Event, seconds: float) -> None:
    """Wait for `event`, at most `seconds`."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([waiting], timeout=seconds)
    finally:
        waiting.cancel()


def _trucks(board: Board, request: Request) -> Response:
    now = board.now_ns()
    return JSONResponse({"utc_ns": now, "trucks": [_truck(board, truck, now) for truck in board.fleet.trucks.values()]})


def _truck(board: Board, truck: TruckState, now_ns: int) -> dict[str, object]:
    picture, position = truck.picture, truck.position
    values = {
        quantity: {
            "value": live.value, "unit": BY_ID[quantity].unit, "reason": live.reason or None, "raw": live.raw, "utc_ns": live.utc_ns,
            "age_s": (now_ns - live.utc_ns) / 1e9, "state": freshness((now_ns - live.utc_ns) / 1e9), "calibrated": live.calibrated,
        }
        for quantity in (row.id for row in TABLE) if (live := truck.values.get(quantity))
    }  # fmt: skip
    counts = board.archive.counts(truck.name)
    return {
        "truck": truck.name,
        "status": truck.status(now_ns),
        "fix_age_s": truck.fix_age_s(now_ns),
        "position": position._asdict() if position else None,
        "values": values,
        "image": {**picture._asdict(), "jpeg": len(picture.jpeg)} if picture else None,
        "images": counts.pictures,
        "segments": counts._asdict(),
        "live": {"items": truck.items, "older": truck.older, "unreadable": truck.unreadable},
    }


def _image(board: Board, request: Request) -> Response:
    truck = board.fleet.trucks.get(request.path_params["truck"])
    if truck is None:
        return _words(404, "no such truck here")
    if truck.picture is None:
        return _words(404, f"no picture has come from {truck.name} yet")
    return Response(truck.picture.jpeg, media_type="image/jpeg")


def _segments(board: Board, request: Request) -> Response:
    truck = request.query_params.get("truck")
    limit = request.query_params.get("limit", "100")
    if truck is not None and truck not in board.fleet.trucks:
        return _words(404, "no such truck here")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 6 and 1 <= int(limit) <= MAX_SEGMENTS):
        return _words(400, f"limit is a number from 1 to {MAX_SEGMENTS}")
    return JSONResponse({"segments": [segment._asdict() for segment in board.archive.newest(truck, int(limit))]})


def _live(board: Board, request: Request) -> Response:
    return JSONResponse(board.fleet.live(reset=request.query_params.get("reset") == "1"))


def _status(board: Board, request: Request) -> Response:
    status = board.status()
    return JSONResponse({
        "utc_ns": board.now_ns(),
        "hub": {**status._asdict(), "error": status.error or None},
        "archive": {"free_bytes": board.archive.free_bytes(), "adopted": board.archive.adopted, "vanished": board.archive.vanished},
        "trucks": list(board.fleet.trucks),
        "viewers": board.viewers,
    })  # fmt: skip


def _home(board: Board, request: Request) -> Response:
    return HTMLResponse(layout.fill(board.page, {**board.fields(), "layout": board.layout}))
