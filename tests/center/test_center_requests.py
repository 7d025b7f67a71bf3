"""Asking a truck: what is shown, what is refused before anything is asked, and what a machine reads."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from center import clock, requests_table
from center.requests import Asked, new_id
from cruisers.__main__ import app
from sox.requests import BOOKMARK, DONE, IMAGES, SENDING, Answer, Gone, Held, Place, Request, check

UTC = 1_800_000_000_000_000_000
REQUEST = Request("20270115T080000Z-0a1b2c3d", IMAGES, UTC - 600 * 10**9, UTC, Place(35.3391, 139.4902, 80.0), UTC)


def held(number: int, keep_every: int = 1) -> Held:
    return Held(f"truck-14-aaaaaaaa-bbbbbbbb-{number:06d}-images", 20, 15_900_000, UTC - number * 10**9, UTC, keep_every)


def shown(asked: Asked) -> str:
    console = Console(file=io.StringIO(), width=80)
    requests_table.show(console, asked)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_request_and_what_became_of_it_fit_a_terminal_of_80_columns() -> None:
    gone = Gone("truck-14-aaaaaaaa-bbbbbbbb-000009-images", 0, 0, "thinned: disk full, every 4. image outside of events is left")
    exists, sent = (held(1, 4), held(2)), tuple(held(number) for number in range(3, 30))
    answer = Answer(REQUEST.request_id, SENDING, "27 of 29 sent", 29, 580, 461_100_000, 27, 429_300_000, 1, exists, sent, (gone,))
    text = shown(Asked("truck-14", REQUEST, answer))
    assert max(map(len, text.splitlines())) <= 80
    assert "from 2027-01-15 07:50:00 to 2027-01-15 08:00:00 within 80 m of 35.33910,139.49020" in " ".join(text.split())
    assert "sending, 29 segments (580 images, 461.1 MB), 27 sent, 1 gone: 27 of 29 sent" in " ".join(text.split())
    assert "aaaaaaaa-bbbbbbbb-000029" in text and "… and 10 segments more" in text
    few = shown(Asked("truck-14", REQUEST, answer._replace(sent=sent[:1], segments=3)))
    assert "on the truck, 1 in 4" in " ".join(few.split()) and re.search(r"000009 +unknown +thinned", few)


def test_a_request_without_an_answer_is_open_and_a_final_answer_ends_it() -> None:
    assert Asked("t", REQUEST, None).open and "no answer yet" in shown(Asked("t", REQUEST, None))
    assert not Asked("t", REQUEST, Answer("x", DONE, "")).open
    assert requests_table.words(Request("b", BOOKMARK, 0, 0, None, UTC)) == "bookmark"


def test_machines_get_every_field_with_times_as_xep_0082() -> None:
    answer = Answer("x", DONE, "", 1, 20, 5, 1, 5, 0, (), (held(1)._replace(first_utc_ns=0),), ())
    document = json.loads(json.dumps(requests_table.machine(Asked("truck-14", REQUEST, answer))))
    assert document["request"]["from"] == "2027-01-15T07:50:00.000000Z" and document["request"]["place"]["radius"] == 80.0
    assert document["answer"]["state"] == "done" and document["answer"]["gone"] == []
    assert document["answer"]["sent"] == [
        {
            "segment_id": "truck-14-aaaaaaaa-bbbbbbbb-000001-images", "images": 20, "bytes": 15_900_000, "keep_every": 1,
            "first": None, "last": "2027-01-15T08:00:00.000000Z",
        }
    ]  # fmt: skip
    assert requests_table.machine(Asked("truck-14", REQUEST, None))["answer"] is None


def test_ids_of_requests_are_new_rise_with_time_and_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "utc_ns", lambda: UTC)
    ids = {new_id() for _ in range(50)}
    assert len(ids) == 50 and all(name.startswith("20270115T080000Z-") for name in ids)
    assert all(check(REQUEST._replace(request_id=name)) for name in ids)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ask", "truck-1"], "neither a time nor a place"),
        (["ask", "truck-1", "--from", "yesterday"], "--from 'yesterday'"),
        (["ask", "truck-1", "--from", "1h", "--to", "2h"], "later than `to`"),
        (["ask", "truck-1", "--at", "35.3"], "LAT,LON"),
        (["ask", "truck-1", "--at", "95,0"], "no place on Earth"),
        (["ask", "truck-9", "--from", "1h"], "no truck 'truck-9'"),
        (["bookmark", "truck-9"], "no truck 'truck-9'"),
        (["requests", "truck-9"], "no truck 'truck-9'"),
        (["bookmark", "truck-1"], "nowhere: No such file"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line_before_anything_is_sent(tmp_path: Path, arguments: list[str], words: str) -> None:
    config = tmp_path / "center.toml"
    config.write_text(
        'archive = "/tmp/x"\ntrucks = ["truck-1"]\n[hub]\ndomain = "hub.test"\nhost = "127.0.0.1"\nport = 1\n'
        'ca_file = "/nowhere"\npassword_file = "/nowhere"\n'
    )
    result = CliRunner().invoke(app, ["center", *arguments, "--config", str(config)])
    assert result.exit_code == 2 and words in result.stderr and result.stderr.count("\n") == 1, result.stderr
    missing = CliRunner().invoke(app, ["center", "bookmark", "truck-1", "--config", str(tmp_path / "none")])
    assert missing.exit_code == 2 and "No such file" in missing.stderr
