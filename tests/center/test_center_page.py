"""The page and its API over HTTP: read-only, no foreign resource, everything escaped."""

import asyncio
import json
import re

import httpx
import pytest
from center_keeping import keep

from center import layout, page
from center.archive import Archive
from center.fleet_state import Fleet, Picture
from center.link import Status
from logbook.quantities import TEN

NOW = 1_793_000_000_000_000_000
TRUCKS = ["truck-1", "truck-2"]


class Client:
    """Asks the application without a network."""

    def __init__(self, application) -> None:
        self._application = application

    def request(self, method: str, path: str, **options) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._application)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def get(self, path: str, **options) -> httpx.Response:
        return self.request("GET", path, **options)


@pytest.fixture
def board(tmp_path):
    archive = Archive(tmp_path / "archive")
    yield page.Board(Fleet(TRUCKS), archive, lambda: Status(False, "the hub <is> away", NOW, 3), lambda: NOW)
    archive.close()


@pytest.fixture
def client(board):
    return Client(page.application(board, "127.0.0.1"))


def test_the_page_names_every_quantity_of_every_truck_and_is_japanese(client):
    answer = client.get("/")
    assert answer.status_code == 200
    assert '<html lang="ja"' in answer.text
    for truck in TRUCKS:
        for quantity in TEN:
            assert f'data-text="{truck}/q/{quantity}/value"' in answer.text
    assert "@{" not in answer.text


def test_texts_from_outside_are_escaped(client, board, live):
    board.fleet.trucks["truck-1"].take(live(NOW, {"pm2_5": "<script>alert(1)</script> @{truck-2/status}@"}), NOW)
    board.fleet.trucks["truck-1"].picture = Picture(b"x", '"><img src=x onerror=alert(1)>', "s", 1, NOW)
    text = client.get("/").text
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "the hub &lt;is&gt; away" in text
    assert "@{truck-2/status}@" in text  # shown as it came, not filled


def test_no_resource_comes_from_elsewhere_and_the_headers_forbid_it(client):
    home = client.get("/")
    assert "default-src 'none'" in home.headers["content-security-policy"]
    assert "unsafe" not in home.headers["content-security-policy"]
    assert home.headers["x-content-type-options"] == "nosniff"
    for path in ("/", "/page.css", "/page.js", "/icon.svg"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert not re.search(r"(src|href|url|@import)[=(\"' ]*(https?:)?//", answer.text.replace("http://www.w3.org/2000/svg", "")), path
    assert " style=" not in home.text
    assert not re.search(r"<script(?! src=)", home.text)


def test_trucks_have_values_in_si_with_unit_age_and_reason(client, board, live):
    board.fleet.trucks["truck-1"].take(live(NOW - 4_000_000_000, {"pressure": 101_325.0, "illuminance": "saturated"}), NOW)
    answer = client.get("/api/trucks").json()
    first, second = answer["trucks"]
    assert (first["truck"], second["values"]) == ("truck-1", {})
    assert first["values"]["pressure"] == {
        "value": 101_325.0, "unit": "Pa", "reason": None, "raw": "raw", "utc_ns": NOW - 4_000_000_000, "age_s": 4.0, "state": "fresh",
        "calibrated": False,
    }  # fmt: skip
    assert first["values"]["illuminance"]["value"] is None
    assert first["values"]["illuminance"]["reason"] == "saturated"


def test_the_image_is_the_recorded_bytes_or_404_with_words(client, board):
    answer = client.get("/api/trucks/truck-1/image")
    assert answer.status_code == 404
    assert "truck-1" in answer.json()["error"]
    assert client.get("/api/trucks/truck-9/image").status_code == 404
    board.fleet.trucks["truck-1"].picture = Picture(b"\xff\xd8\xff\xd9", "front", "s", 1, NOW)
    answer = client.get("/api/trucks/truck-1/image")
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "image/jpeg", b"\xff\xd8\xff\xd9")
    assert client.get("/api/trucks").json()["trucks"][0]["image"]["camera"] == "front"


def test_segments_are_listed_newest_first_and_bad_questions_get_words(client, board, maker):
    for truck in ("truck-1", "truck-2", "truck-1"):
        keep(board.archive, maker.readings(truck))
    numbers = [segment["segment_id"].split("-")[-2] for segment in client.get("/api/segments").json()["segments"]]
    assert len(numbers) == 3 and numbers == sorted(numbers, reverse=True)
    assert len(client.get("/api/segments?truck=truck-1").json()["segments"]) == 2
    assert len(client.get("/api/segments?limit=1").json()["segments"]) == 1
    assert client.get("/api/segments?truck=nobody").status_code == 404
    for limit in ("0", "-1", "x", "1001", "٣", "1" * 5000):
        assert client.get("/api/segments", params={"limit": limit}).status_code == 400


def test_the_status_tells_of_the_hub(client):
    status = client.get("/api/status").json()
    assert status["hub"] == {"connected": False, "error": "the hub <is> away", "since_utc_ns": NOW, "connections": 3}
    assert status["trucks"] == TRUCKS


def test_the_center_is_read_only_and_answers_to_loopback_names_only(client):
    assert client.request("POST", "/api/trucks").status_code == 405
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/nothing").status_code == 404


@pytest.mark.timeout(60)
async def test_events_bring_all_texts_first_and_then_only_what_changed(board, live, monkeypatch):
    monkeypatch.setattr(page, "TICK_S", 0.01)
    changes = page._changes(board)
    first = payload(await anext(changes))
    assert first["layout"] == board.layout
    assert first["fields"]["truck-1/q/pressure/value"] == "—"
    board.fleet.trucks["truck-1"].take(live(NOW, {"pressure": 101_325.0}), NOW)
    second = payload(await anext(changes))["fields"]
    second.pop("hub/free", None)  # other tests write to this disk
    assert second["truck-1/q/pressure/value"] == "1013.25"
    assert all(key.startswith("truck-1/") for key in second)
    board.stopping.set()
    with pytest.raises(StopAsyncIteration):
        await anext(changes)
    assert board.viewers == 0


def test_every_key_of_the_page_has_a_text(board):
    fields = board.fields()
    filled = layout.fill(board.page, {**fields, "layout": "x"})
    keys = re.findall(r'data-(?:text|state-of|source-of|label-of)="([^"]+)"', filled)
    assert set(keys) <= fields.keys()
    unseen = {key for key in fields.keys() - set(keys) if "/q/" not in key}
    assert not unseen, f"texts that the page never shows: {unseen}"


def payload(event: str) -> dict:
    name, data, *rest = event.split("\n")
    assert (name, rest) == ("event: fields", ["", ""])
    return json.loads(data.removeprefix("data: "))
