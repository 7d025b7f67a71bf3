"""Objects to and from the real ejabberd's upload service."""

import asyncio
import hashlib
import os
import ssl
import stat
from urllib.parse import urlsplit

import aiohttp
import pytest

from hub import certificates
from hub.limits import MAX_OBJECT
from sox.client import SoxClient, SoxError
from sox.transfer import TransferError, fetch, put_file

pytestmark = pytest.mark.timeout(60)


def with_truck(hub, work):
    async def main():
        client = hub.client("truck-1")
        await client.connect()
        try:
            return await work(client)
        finally:
            await client.disconnect()

    return asyncio.run(main())


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 20_000_000])
def test_an_object_comes_back_byte_for_byte(hub, tmp_path, size):
    ca_file = hub.info["ca_file"]
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(size))

    async def work(truck: SoxClient) -> None:
        if size == 0:
            with pytest.raises(SoxError) as caught:  # ejabberd gives no place for nothing
                await truck.upload_slot("a.mcap", 0)
            assert caught.value.condition == "bad-request"
            return
        slot = await truck.upload_slot("truck-1-000001-readings.mcap", size)
        told: list[int] = []
        assert await put_file(slot, source, ca_file, told.append) == size
        assert told == sorted(told) and told[-1] == size
        assert await fetch(slot.get, ca_file, target, size) == hashlib.sha256(source.read_bytes()).hexdigest()
        assert target.read_bytes() == source.read_bytes()

    with_truck(hub, work)


def test_a_used_slot_takes_nothing_more_and_a_longer_file_is_refused(hub, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"x" * 1000)

    async def work(truck: SoxClient) -> None:
        slot = await truck.upload_slot("a", 1000)
        await put_file(slot, source, hub.info["ca_file"])
        with pytest.raises(TransferError) as again:
            await put_file(slot, source, hub.info["ca_file"])
        assert (again.value.condition, again.value.status) == ("http", 403)
        short = await truck.upload_slot("a", 999)
        with pytest.raises(TransferError) as longer:
            await put_file(short, source, hub.info["ca_file"])
        assert longer.value.condition in ("http", "connection") and longer.value.status in (413, None)

    with_truck(hub, work)


def test_an_object_beyond_the_limit_gets_no_slot(hub):
    async def work(truck: SoxClient) -> str:
        await truck.upload_slot("a", MAX_OBJECT)
        with pytest.raises(SoxError) as caught:
            await truck.upload_slot("a", MAX_OBJECT + 1)
        return caught.value.condition

    assert with_truck(hub, work) == "not-acceptable"


def test_addresses_cannot_be_guessed_or_listed_and_objects_are_closed_to_other_users_of_the_machine(hub, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"secret")
    context = ssl.create_default_context(cafile=hub.info["ca_file"])

    async def work(truck: SoxClient) -> None:
        slots = [await truck.upload_slot("same.mcap", 6) for _ in range(2)]
        await put_file(slots[0], source, hub.info["ca_file"])
        paths = [urlsplit(slot.get).path.split("/") for slot in slots]
        assert paths[0][-2] != paths[1][-2] and len(paths[0][-2]) >= 40
        above = slots[0].get.rpartition("/")[0]
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            for address in (above, above + "/", above.rpartition("/")[0] + "/", f"https://127.0.0.1:{hub.info['http_port']}/upload/"):
                async with session.get(address) as answer:
                    assert answer.status in (403, 404), address
                    assert "same.mcap" not in await answer.text()

    with_truck(hub, work)
    stored = [path for path in (hub.home / "upload").rglob("*") if path.is_file()]
    assert stored and {stat.S_IMODE(path.stat().st_mode) for path in stored} == {0o600}


def test_an_absent_object_a_wrong_length_and_a_wrong_authority_leave_no_file(hub, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"x" * 100_000)
    foreign = certificates.ensure(tmp_path / "tls", "other.test", "127.0.0.1").ca

    async def work(truck: SoxClient) -> None:
        slot = await truck.upload_slot("a", 100_000)
        await put_file(slot, source, hub.info["ca_file"])
        unused = await truck.upload_slot("b", 100_000)
        cases = [
            (unused.get, hub.info["ca_file"], 100_000, "http", 404),
            (slot.get, hub.info["ca_file"], 99_999, "size", None),
            (slot.get, hub.info["ca_file"], 100_001, "size", None),
            (slot.get, foreign, 100_000, "certificate", None),
            (slot.get.replace("https://", "http://"), hub.info["ca_file"], 100_000, "bad-address", None),
        ]
        for address, ca_file, size, condition, status in cases:
            with pytest.raises(TransferError) as caught:
                await fetch(address, ca_file, target, size)
            assert (caught.value.condition, caught.value.status) == (condition, status)
            assert slot.get.rpartition("/")[0] not in str(caught.value)  # the address is a capability
            assert not target.exists()

    with_truck(hub, work)
