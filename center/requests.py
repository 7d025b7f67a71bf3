"""Asking a truck, and following what it answers (docs/formats.md 5).

Nothing is kept here: the truck's request node holds the newest 2000 requests and its answers node the answers to them, on the hub's disk.
So a request survives a restart of either side, any of the center's processes can follow it, and there is no second truth to disagree
with the first. A truck that is away answers when it comes back."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import NamedTuple
from xml.etree import ElementTree as ET

from center import clock
from sox import nodes
from sox.client import SoxClient
from sox.documents import xep0082
from sox.errors import SoxError
from sox.requests import FINAL, Answer, BadAnswer, BadRequest, Request, read_answer, read_request, request_document, requests_device

READ_AGAIN_SECONDS = 15.0  # a notification may be lost with its connection; reading one node costs little

log = logging.getLogger("center.requests")


class Asked(NamedTuple):
    """A request to a truck and its newest answer, None while there is none."""

    truck: str
    request: Request
    answer: Answer | None

    @property
    def open(self) -> bool:
        """Whether more will be said to it."""
        return self.answer is None or not is_final(self.answer)


def new_id() -> str:
    """An id for a request: rises with time, and never comes twice."""
    return f"{xep0082(clock.utc_ns())[:19].replace('-', '').replace(':', '')}Z-{secrets.token_hex(4)}"


async def ask(client: SoxClient, truck: str, request: Request) -> None:
    """Publish `request` for `truck`; returns when the hub has it. Raises BadRequest (nothing was published), SoxError."""
    document = request_document(request)
    device = nodes.channel(truck, "request")
    await client.publish(nodes.meta(device), str(clock.utc_ns()), requests_device(device))
    await client.publish(nodes.data(device), request.request_id, document)


async def asked(client: SoxClient, truck: str) -> list[Asked]:
    """All requests to `truck` that the hub still holds, with their answers, oldest first. Raises SoxError."""
    answers = await _answers(client, truck)
    found = []
    for item_id, element in await client.items(nodes.data(nodes.channel(truck, "request"))):
        try:
            request = read_request(item_id, element)
        except BadRequest as error:
            log.warning("%s: request %r: %s", truck, item_id, error)
            continue
        found.append(Asked(truck, request, answers.get(item_id)))
    return found


def is_final(answer: Answer) -> bool:
    """Whether nothing more will be said to the request."""
    return answer.state in FINAL


async def follow(
    client: SoxClient,
    truck: str,
    request_id: str,
    told: Callable[[Answer], None],
    enough: Callable[[Answer], bool] = is_final,
    read_again: float = READ_AGAIN_SECONDS,
) -> None:
    """Call `told` with each new answer to a request, until one is `enough`. Waits for it without limit; raises SoxError when the connection
    is lost."""
    node = nodes.data(nodes.channel(truck, "answers"))
    arrived = asyncio.Event()
    newest: list[Answer] = []
    lost: list[SoxError | None] = []

    def take(found: str, item_id: str, element: ET.Element) -> None:
        if found != node or item_id != request_id:
            return
        try:
            answer = read_answer(item_id, element)
        except BadAnswer as error:
            log.warning("%s: %s", truck, error)
            return
        if newest[-1:] != [answer]:
            newest[:] = [answer]
            arrived.set()

    def ended(error: SoxError | None) -> None:
        lost.append(error)
        arrived.set()

    client.on_item(take)
    client.on_disconnected(ended)
    await client.subscribe(node)
    while True:
        for item_id, element in await client.items(node):
            take(node, item_id, element)
        try:
            async with asyncio.timeout(read_again):
                await arrived.wait()
        except TimeoutError:
            continue
        arrived.clear()
        if lost:
            raise lost[0] or SoxError("disconnected", "the connection was closed")
        answer = newest[-1]
        told(answer)
        if enough(answer):
            return


async def _answers(client: SoxClient, truck: str) -> dict[str, Answer]:
    found = {}
    for item_id, element in await client.items(nodes.data(nodes.channel(truck, "answers"))):
        try:
            found[item_id] = read_answer(item_id, element)
        except BadAnswer as error:
            log.warning("%s: %s", truck, error)
    return found
