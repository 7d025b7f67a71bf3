"""A connection that is kept: every end is told, every beginning ends with a disconnect."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from sox.client import SoxClient
from sox.errors import SoxError
from sox.keeping import connection, keep

pytestmark = pytest.mark.timeout(30)


class FakeClient:
    """What `connection` needs of a SoxClient: the real one is in test_sox_client.py and in the hub's tests."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses = refuses
        self.done: list[str] = []
        self.end: Callable[[SoxError | None], None] | None = None

    def on_item(self, callback: Any) -> None:
        self.done.append("on_item")

    def on_disconnected(self, callback: Callable[[SoxError | None], None]) -> None:
        self.end = callback

    async def connect(self) -> None:
        self.done.append("connect")
        if self.refuses:
            raise SoxError("refused", "nobody listens")

    async def disconnect(self) -> None:
        self.done.append("disconnect")


async def test_each_end_is_told_and_the_next_session_begins() -> None:
    told: list[str] = []
    enough = asyncio.Event()
    ends = iter(["closed", SoxError("refused", "nobody listens"), "closed again"])

    async def session() -> str:
        end = next(ends)
        if isinstance(end, SoxError):
            raise end
        return end

    def ended(problem: str) -> None:
        told.append(problem)
        if len(told) == 3:
            enough.set()

    keeping = asyncio.ensure_future(keep(session, ended, back_off_first=0.001))
    await enough.wait()
    keeping.cancel()
    assert told[0] == "closed" and "nobody listens" in told[1] and told[2] == "closed again"


@pytest.mark.parametrize("refuses", [False, True])
async def test_a_connection_always_ends_with_a_disconnect(refuses: bool) -> None:
    client = FakeClient(refuses)
    if refuses:
        with pytest.raises(SoxError):
            async with connection(cast(SoxClient, client), lambda node, item, element: None):
                pass
    else:
        async with connection(cast(SoxClient, client), lambda node, item, element: None) as lost:
            assert client.end is not None
            client.end(SoxError("disconnected", "gone"))
            client.end(None)  # told twice: the first reason counts
            assert str(await lost) == str(SoxError("disconnected", "gone"))
    assert client.done == ["on_item", "connect", "disconnect"]
