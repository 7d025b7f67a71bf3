"""What the center asks for: requests in, answers out, and what lies between (docs/formats.md 5).

    <truck>_request_data ─> item() ─> requests (ledger) ─> match ─> Ledger.request: sent before other images
                                                            └────> answers (ledger) ─> <truck>_answers_data

Two tasks beside the looking one (uplink_requests_look.py): `follow` reads the node at each connect, as the receipts' does, and `run` does
the work. A request is entered once, whatever comes again: by its id in the ledger, and after a ledger was begun anew by the final answer
that stands on the hub. Its images are marked as requested, and the answer is computed anew while anything about it may change; it is
published when it is another, and written down as published after the hub took it, so that a cut repeats an answer and loses none.

A bookmark is passed on to the recorder (gateway/recorder_call.py), once, and only while its moment lasts. Cut between mark and note it may
be marked twice within that time: harmless.

Limits: images that wait for requests may take REQUESTED_PART of the spool's quota; what asks for more at once is refused. A request that
is open after 30 days is given up.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec

from gateway import config, ledger_requests, recorder_call
from gateway.clock import Clock, boottime_ns
from gateway.ledger import Ledger, kernel_boot_id
from gateway.ledger_requests import Asked
from gateway.uplink_books import Books
from gateway.uplink_link import REFUSING_CONDITIONS, Link
from gateway.uplink_requests_answer import MARKED, STALE_SECONDS, answer_to, answer_to_mark, stale
from gateway.uplink_requests_match import Match, match
from sox import nodes
from sox.account import back_off
from sox.client import SoxClient
from sox.errors import SoxError
from sox.requests import (
    BOOKMARK,
    FINAL,
    REFUSED,
    Answer,
    BadAnswer,
    BadRequest,
    Request,
    answer_document,
    answers_device,
    read_answer,
    read_request,
    wants_images,
)

ANSWER_SECONDS = 3.0  # between two answers to the same request, at least: k of n need not be told for every k
REST = 10  # times as long as a round took: many open requests leave the ledger to the others
SEALED_SECONDS = 30.0  # beyond the longest time of an images segment, until the last image of a moment is sealed and found
REQUESTED_PART = 10  # of the quota: 20 GB by default, which is a day of one camera at 5 images a second
ID_MOST = 200  # characters of an item id that is answered at all

log = logging.getLogger("uplink")


class Requests:
    """The requests of one truck. `on_requested` is called when images were moved to the front of the queue; `utc_ns` tells the system
    clock's UTC, 0 where nobody vouches for it (then the segments' clock counts)."""

    def __init__(
        self, truck: config.Truck, books: Books, link: Link, back_off_first: float, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._requests = nodes.data(nodes.channel(truck.name, "request"))
        self._device = nodes.channel(truck.name, "answers")
        self._answers = nodes.data(self._device)
        self._spool = Path(truck.spool)
        self._sealed_ns = int((truck.images_segment_seconds + SEALED_SECONDS) * 1e9)
        self._most_bytes = truck.spool_quota_bytes // REQUESTED_PART
        self._books = books
        self._link = link
        self._back_off_first = back_off_first
        self._answer_seconds = answer_seconds
        self._arrived: deque[tuple[str, Request | BadRequest]] = deque()
        self._wake = asyncio.Event()
        self.utc_ns: Callable[[], int] = lambda: Clock().utc_ns(boottime_ns())
        self.on_requested: Callable[[], None] | None = None
        self.open = 0
        self.answered = 0
        self.unreadable = 0
        self.problem: str | None = None

    # -- requests in

    async def follow(self) -> None:
        """On each connection: subscribe, then read what is there (in this order nothing can slip between)."""
        failures = 0
        while True:
            client = await self._link.client()
            try:
                await client.subscribe(self._requests)
                items = await client.items(self._requests)
                await self._describe(client)
                await self._adopt(client, {item_id for item_id, _ in items})
            except SoxError as error:
                failures += 1
                self._trouble(f"requests: {error}")
                await asyncio.sleep(back_off(failures, self._back_off_first))
                continue
            failures, self.problem = 0, None
            for item_id, element in items:
                self.item(self._requests, item_id, element)
            await self._link.lost(client)

    async def _describe(self, client: SoxClient) -> None:
        """Who answers, with a rising id: that of an older item would leave the older one in the node."""
        node = nodes.meta(self._device)
        known = max((int(item_id) for item_id, _ in await client.items(node) if item_id.isdecimal()), default=0)
        number = await self._books(Ledger.reserve_ids, known + 1, 1)
        await client.publish(node, str(number), answers_device(self._device))

    async def _adopt(self, client: SoxClient, asked: set[str]) -> None:
        """Requests that the ledger does not know and that are answered for good on the hub: a ledger was begun anew."""
        if not asked - await self._books(ledger_requests.known_requests):
            return
        for item_id, element in await client.items(self._answers):
            try:
                answer = read_answer(item_id, element)
            except BadAnswer as error:
                log.warning("own %s", error)
                continue
            if answer.state in FINAL:
                await self._books(ledger_requests.enter_request, item_id, "", answer.state, _text(answer), True)

    def item(self, node: str, item_id: str, element: ET.Element) -> None:
        """An item of any subscribed node arrived."""
        if node != self._requests:
            return
        if not 0 < len(item_id) <= ID_MOST:
            self.unreadable += 1
            log.warning("a request with an id of %d characters", len(item_id))
            return
        try:
            self._arrived.append((item_id, read_request(item_id, element)))
        except BadRequest as error:
            self._arrived.append((item_id, error))
        self._wake.set()

    async def _enter(self, item_id: str, request: Request | BadRequest) -> None:
        """Enter what arrived, unless it is known; what cannot be followed is entered with its refusal."""
        if isinstance(request, Request):
            why = stale(request, await self._now())
            document = msgspec.json.encode(request).decode()
        else:
            why, document = str(request), ""
        refusal = _text(Answer(item_id, REFUSED, why)) if why else ""
        if await self._books(ledger_requests.enter_request, item_id, document, REFUSED if why else "", refusal):
            log.info("request %s: %s", item_id, f"refused: {why}" if why else document)

    # -- the work

    async def run(self) -> None:
        """Work and answer until cancelled. Raises sqlite3.OperationalError when the ledger's disk refuses; nothing is lost by it."""
        failures = 0
        while True:
            self._wake.clear()
            began = asyncio.get_running_loop().time()
            while self._arrived:
                await self._enter(*self._arrived[0])
                self._arrived.popleft()  # entered: one that the disk refused comes again first
            try:
                requests = await self._books(ledger_requests.open_requests, FINAL)
                self.open = len(requests)
                for asked in requests:
                    await self._work(asked)
                await self._publish()
            except SoxError as error:
                failures += 1
                self._trouble(f"answers: {error}")
                await asyncio.sleep(back_off(failures, self._back_off_first))
                continue
            failures, self.problem = 0, None
            took = asyncio.get_running_loop().time() - began
            try:
                async with asyncio.timeout(max(self._answer_seconds, REST * took)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _work(self, asked: Asked) -> None:
        """Do what an open request asks, and compute its answer."""
        request = _request(asked)
        marked = asked.marked
        if request.kind == BOOKMARK and not marked:
            marked = await self._mark(request)
            await self._books(ledger_requests.marked, asked.request_id, marked)
        if not wants_images(request):
            answer = answer_to_mark(request, marked)
        else:
            answer = await self._images(request, marked)
        await self._books(ledger_requests.answer, asked.request_id, answer.state, _text(answer))

    async def _mark(self, request: Request) -> str:
        why = stale(request._replace(from_utc_ns=0, to_utc_ns=0, place=None), await self._now())
        if not why:
            why = await asyncio.to_thread(self._call, request.request_id)
        return f"not marked: {why}" if why else MARKED

    def _call(self, detail: str) -> str:
        return recorder_call.mark(self._spool, "center", detail) or ""

    async def _images(self, request: Request, marked: str) -> Answer:
        found = await self._books(match, request)
        utc_ns = await self._now()
        too_much = ""
        if found.new:
            too_much = await self._too_much(found)
            if not too_much:
                await self._books(Ledger.request, found.new)
                if self.on_requested is not None:
                    self.on_requested()
        last = request.to_utc_ns or request.asked_utc_ns
        over = not found.unseen and utc_ns >= last + self._sealed_ns
        late = utc_ns > request.asked_utc_ns + STALE_SECONDS * 1e9
        return answer_to(request, found, over, late, marked, too_much)

    async def _too_much(self, found: Match) -> str:
        waiting = await self._books(ledger_requests.requested_bytes)
        if waiting + found.new_bytes <= self._most_bytes:
            return ""
        return (
            f"{found.new_bytes / 1e9:.3g} GB of images: with the {waiting / 1e9:.3g} GB asked for already more than the"
            f" {self._most_bytes / 1e9:.3g} GB that may wait; ask for less, or later"
        )

    async def _now(self) -> int:
        """UTC now in ns, 0 if nobody knows it."""
        if utc_ns := await asyncio.to_thread(self.utc_ns):
            return utc_ns
        offset = (await self._books(ledger_requests.offsets)).get(kernel_boot_id()[:8])
        return 0 if offset is None else boottime_ns() + offset

    # -- answers out

    async def _publish(self) -> None:
        """Publish the answers that the hub has not. One that it refuses does not hold up the others; it is raised after them."""
        refused: SoxError | None = None
        for asked in await self._books(ledger_requests.unpublished):
            client = await self._link.client()
            document = answer_document(_answer(asked), await self._now())
            try:
                await client.publish(self._answers, asked.request_id, document)
            except SoxError as error:
                if error.condition not in REFUSING_CONDITIONS:
                    raise
                refused = error
                continue
            await self._books(ledger_requests.published, asked.request_id, asked.answer)
            self.answered += 1
        if refused is not None:
            raise refused

    def _trouble(self, problem: str) -> None:
        self.problem = problem
        log.warning("%s", problem)

    def status(self) -> dict[str, Any]:
        """For the status file."""
        return {"requests_open": self.open, "requests_unreadable": self.unreadable, "answers": self.answered}


def _text(answer: Answer) -> str:
    return msgspec.json.encode(answer).decode()


def _answer(asked: Asked) -> Answer:
    return msgspec.json.decode(asked.answer, type=Answer)


def _request(asked: Asked) -> Request:
    return msgspec.json.decode(asked.document, type=Request)
