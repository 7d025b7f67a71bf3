"""From announcement to receipt, with the hub replaced by a folder of objects: every way an object can be wrong, and the order of steps."""

import asyncio
import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest

from center import store as store_module
from center.archive import Archive, file_sha256
from center.ingest_take import Taker
from center.receive import TRIES, Receiver
from sox.errors import SoxError, TransferError
from sox.segments import BadAnnouncement

pytestmark = pytest.mark.timeout(60)


class City:
    """A receiver with an archive; objects by address; what was fetched, published and stored, in order."""

    def __init__(self, folder: Path) -> None:
        self.archive = Archive(folder / "archive")
        self.objects: dict[str, Path] = {}
        self.steps: list[str] = []
        self.receipts = []
        self.fetch_errors: list[Exception] = []
        self.publish_errors: list[Exception] = []
        self.free = None
        take = Taker(self.archive, self.fetch, 0).take
        self.receiver = Receiver(self.archive, take, self.publish, self.stored, ["127.0.0.1"], 10**7, retry_first_s=0.001)

    async def fetch(self, url: str, target: Path, size: int) -> None:
        self.steps.append("fetch")
        if self.fetch_errors:
            raise self.fetch_errors.pop(0)
        shutil.copy(self.objects[url], target)

    async def publish(self, truck: str, receipt) -> None:
        self.steps.append("publish")
        if self.publish_errors:
            raise self.publish_errors.pop(0)
        self.receipts.append(receipt)

    async def stored(self, truck: str, stream: str) -> None:
        self.steps.append(f"stored {truck} {stream}")

    def offer(self, made, **changes):
        """Put the object of a segment on the hub and announce it."""
        self.objects[made.announcement.url] = made.path
        self.receiver.announced(made.announcement.truck, made.announcement.segment_id, made.announcement._replace(**changes))

    async def work(self, receipts: int) -> None:
        """Run until so many receipts are there and nothing is open."""
        await self._run_until(lambda: len(self.receipts) >= receipts and not self.receiver.open)

    async def give_up(self) -> None:
        """Run until an announcement is left for its repetition."""
        await self._run_until(lambda: self.receiver.given_up > 0)

    async def _run_until(self, done) -> None:
        task = asyncio.ensure_future(self.receiver.run())
        for _ in range(10_000):
            if done() or task.done():
                break
            await asyncio.sleep(0.002)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def city(tmp_path):
    made = City(tmp_path)
    yield made
    made.archive.close()


def quarantined(city) -> list[Path]:
    return sorted((city.archive.folder / "_quarantine").glob("*.mcap"))


async def test_a_good_segment_is_stored_and_receipted_with_its_size_and_sha256(city, maker):
    made = maker.readings()
    city.offer(made)
    await city.work(1)
    [receipt] = city.receipts
    assert (receipt.state, receipt.sha256, receipt.size, receipt.reason) == (
        "stored", file_sha256(made.path), made.path.stat().st_size, "",
    )  # fmt: skip
    assert city.archive.path("truck-1", receipt.segment_id).read_bytes() == made.path.read_bytes()
    assert city.archive.counts("truck-1")[:2] == (1, 1)
    assert not list((city.archive.folder / "_incoming").rglob("*.part"))


async def test_the_receipt_follows_the_sync_of_the_file_and_of_its_folder(city, maker, monkeypatch):
    real_sync, real_replace = store_module.sync, os.replace

    def sync(path: Path) -> None:
        real_sync(path)
        city.steps.append(f"sync {path.name if path.is_dir() else 'incoming'}")

    def replace(source, target) -> None:
        real_replace(source, target)
        city.steps.append("rename")

    monkeypatch.setattr(store_module, "sync", sync)
    monkeypatch.setattr(store_module.os, "replace", replace)
    city.offer(maker.readings())
    await city.work(1)
    assert city.steps == [
        "fetch", "sync archive", "sync incoming", "rename", "sync truck-1", "stored truck-1 readings", "publish",
    ]  # fmt: skip


async def test_no_receipt_goes_out_if_the_disk_refuses_the_sync(city, maker, monkeypatch):
    def refuse(path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(store_module, "sync", refuse)
    city.offer(maker.readings())
    await city.give_up()
    assert city.receipts == []
    assert "publish" not in city.steps
    assert city.steps.count("fetch") == TRIES


async def test_a_known_segment_is_answered_again_without_fetching_or_storing(city, maker):
    made = maker.readings()
    city.offer(made)
    await city.work(1)
    inode = city.archive.path("truck-1", made.announcement.segment_id).stat().st_ino
    city.offer(made, url="https://127.0.0.1/again")
    await city.work(2)
    assert city.receipts[0] == city.receipts[1]
    assert city.steps.count("fetch") == 1
    assert city.archive.path("truck-1", made.announcement.segment_id).stat().st_ino == inode
    assert city.archive.counts("truck-1").stored == 1


async def test_a_wrong_sha256_is_refused_and_the_object_kept_in_quarantine(city, maker):
    made = maker.readings()
    city.offer(made, sha256="0" * 64)
    await city.work(1)
    [receipt] = city.receipts
    assert receipt.state == "refused"
    assert "SHA-256" in receipt.reason
    [kept] = quarantined(city)
    assert kept.read_bytes() == made.path.read_bytes()
    assert "SHA-256" in json.loads(kept.with_suffix(".json").read_text())["reason"]
    assert city.archive.known(made.announcement.segment_id) is None
    assert city.archive.counts("truck-1") == (0, 0, 0, 0, 1)


async def test_a_flipped_bit_inside_a_chunk_is_refused_although_its_sha256_fits(city, maker, tmp_path):
    made = maker.images([b"\xff\xd8" + bytes(5000) + b"\xff\xd9"])
    data = bytearray(made.path.read_bytes())
    data[data.index(b"\xff\xd8") + 1000] ^= 0x10
    made.path.write_bytes(data)
    city.offer(made, sha256=file_sha256(made.path))
    await city.work(1)
    [receipt] = city.receipts
    assert receipt.state == "refused"
    assert "damaged" in receipt.reason
    assert len(quarantined(city)) == 1


async def test_a_truncated_object_and_one_of_another_size_are_refused(city, maker):
    made, short = maker.readings(), maker.readings()
    city.offer(made, size=made.announcement.size + 1)
    short.path.write_bytes(short.path.read_bytes()[:-100])
    city.offer(short, sha256=file_sha256(short.path), size=short.path.stat().st_size)
    await city.work(2)
    assert [receipt.state for receipt in city.receipts] == ["refused", "refused"]


async def test_a_segment_announced_under_the_name_of_another_is_refused(city, maker):
    made, other = maker.readings(), maker.readings()
    city.objects["https://127.0.0.1/x"] = made.path
    offer = made.announcement._replace(segment_id=other.announcement.segment_id, url="https://127.0.0.1/x")
    city.receiver.announced("truck-1", offer.segment_id, offer)
    await city.work(1)
    assert city.receipts[0].state == "refused"
    assert made.announcement.segment_id in city.receipts[0].reason


async def test_another_content_under_a_stored_id_is_refused_and_the_stored_one_stays(city, maker):
    made, other = maker.readings(), maker.readings(samples=10)
    city.offer(made)
    await city.work(1)
    offer = other.announcement._replace(segment_id=made.announcement.segment_id)
    city.receiver.announced("truck-1", made.announcement.segment_id, offer)
    await city.work(2)
    assert city.receipts[1].state == "refused"
    assert city.receipts[1].sha256 == other.announcement.sha256
    assert file_sha256(city.archive.path("truck-1", made.announcement.segment_id)) == made.announcement.sha256


async def test_a_refused_object_is_refused_again_without_fetching_and_a_new_upload_is_tried(city, maker):
    made = maker.readings()
    good = made.path.read_bytes()
    made.path.write_bytes(good[:-1] + b"x")
    city.offer(made)
    await city.work(1)
    city.offer(made)
    await city.work(2)
    assert city.steps.count("fetch") == 1
    assert city.receipts[0] == city.receipts[1]
    made.path.write_bytes(good)
    city.objects["https://127.0.0.1/new"] = made.path
    city.receiver.announced("truck-1", made.announcement.segment_id, made.announcement._replace(url="https://127.0.0.1/new"))
    await city.work(3)
    assert [receipt.state for receipt in city.receipts] == ["refused", "refused", "stored"]


async def test_an_announcement_that_cannot_be_followed_is_refused_without_fetching(city, maker):
    city.offer(maker.readings(), url="https://elsewhere.example/x")
    city.receiver.announced("truck-1", "../../../etc/passwd", BadAnnouncement("item id is not a segment id"))
    await city.work(2)
    assert {receipt.state for receipt in city.receipts} == {"refused"}
    assert "fetch" not in city.steps


@pytest.mark.parametrize(
    "error", [TransferError("stalled", "x"), TransferError("http", "x", 503), TransferError("connection", "x"), OSError(28, "x")]
)
async def test_what_may_pass_is_tried_again_and_is_no_refusal(city, maker, error):
    city.fetch_errors = [error, error]
    city.offer(maker.readings())
    await city.work(1)
    assert city.receipts[0].state == "stored"
    assert city.steps.count("fetch") == 3


@pytest.mark.parametrize("error", [TransferError("http", "gone", 404), TransferError("size", "short")])
async def test_an_object_that_cannot_come_any_more_is_refused_so_that_the_truck_uploads_anew(city, maker, error):
    city.fetch_errors = [error]
    city.offer(maker.readings())
    await city.work(1)
    assert city.receipts[0].state == "refused"


async def test_a_receipt_that_the_hub_did_not_take_is_sent_again_and_nothing_is_stored_twice(city, maker):
    city.publish_errors = [SoxError("disconnected", "x"), SoxError("timeout", "x")]
    made = maker.readings()
    city.offer(made)
    await city.work(1)
    assert city.receipts[0].state == "stored"
    assert city.steps.count("fetch") == 1
    assert city.archive.counts("truck-1")[:2] == (1, 1)


async def test_a_full_disk_is_no_answer(city, maker, monkeypatch):
    monkeypatch.setattr(city.archive, "free_bytes", lambda: 100)
    city.offer(maker.readings())
    await city.give_up()
    assert city.receipts == []
    assert "fetch" not in city.steps


async def test_the_same_announcement_twice_at_once_is_one_piece_of_work(city, maker):
    made = maker.readings()
    city.offer(made)
    city.offer(made)
    await city.work(1)
    assert city.steps.count("fetch") == 1
    assert len(city.receipts) == 1


@pytest.mark.parametrize("failures", [0, 1])
async def test_an_announcement_that_comes_while_its_receipt_goes_out_gets_a_receipt_of_its_own(city, maker, failures):
    """Seen against the real hub: the truck had the receipt and announced again before the center had noted that it was sent."""
    made = maker.readings()
    city.publish_errors = [SoxError("timeout", "x")] * failures
    publish, announced = city.publish, []

    async def published_and_announced_again(truck, receipt) -> None:
        if not announced:
            announced.append(receipt)
            city.offer(made)
        await publish(truck, receipt)

    city.receiver._publish = published_and_announced_again
    city.offer(made)
    await city.work(2)
    assert [receipt.state for receipt in city.receipts] == ["stored", "stored"]
    assert city.steps.count("fetch") == 1


async def test_a_new_upload_announced_while_the_old_one_is_fetched_is_worked_on_next(city, maker):
    made = maker.readings()
    broken, good = made.path.with_name("broken"), made.path
    broken.write_bytes(good.read_bytes()[:-1] + b"x")
    city.objects = {"https://127.0.0.1/old": broken, "https://127.0.0.1/new": good}
    for url in city.objects:
        city.receiver.announced("truck-1", made.announcement.segment_id, made.announcement._replace(url=url))
    await city.work(2)
    assert [receipt.state for receipt in city.receipts] == ["refused", "stored"]


async def test_a_new_upload_does_not_wait_for_the_retries_of_the_old_one(city, maker):
    made = maker.readings()
    city.fetch_errors = [TransferError("stalled", "x")]
    city.offer(made, url="https://127.0.0.1/old")
    city.offer(made)
    await city.work(1)
    assert city.receipts[0].state == "stored"
    assert city.steps.count("fetch") == 2


async def test_an_object_that_never_comes_does_not_hold_up_the_others(city, maker):
    bad, good = maker.readings(), maker.readings()
    city.offer(bad)
    city.objects[bad.announcement.url] = Path("/nonexistent")
    city.offer(good)
    await city.work(1)
    assert [receipt.segment_id for receipt in city.receipts] == [good.announcement.segment_id]
    assert city.receiver.given_up == 1


async def test_a_fault_of_our_own_costs_one_announcement_and_not_the_service(city, maker, caplog):
    city.fetch_errors = [RuntimeError("a bug")]
    city.offer(maker.readings())
    city.offer(maker.readings())
    await city.work(1)
    assert city.receiver.given_up == 1
    assert "a bug" in caplog.text
