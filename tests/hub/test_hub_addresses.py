"""A name with several addresses, as a city's hub of several nodes has one."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from sox.client import SoxClient

SILENT = "127.0.0.2"
NAME = "hub.city.test"


@contextmanager
def silent(port: int) -> Iterator[None]:
    """An address that answers no SYN, as a machine without power: a listener whose queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((SILENT, port))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((SILENT, port))
        yield


def test_the_next_address_of_the_hubs_name_is_tried_while_one_does_not_answer(hub, monkeypatch: pytest.MonkeyPatch) -> None:
    port = hub.info["c2s_port"]
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in (SILENT, "127.0.0.1")]

    async def main() -> None:
        known: Any = asyncio.get_running_loop().getaddrinfo

        async def resolve(host: str, *arguments: Any, **options: Any) -> Any:
            return both if host == NAME else await known(host, *arguments, **options)

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
        found = hub.client("truck-1")
        client = SoxClient(found.jid, found._password, NAME, port, hub.info["ca_file"])
        await client.connect(10.0)
        assert client.connected
        await client.disconnect()

    with silent(port):
        asyncio.run(main())
