"""Passport, key and label of a unit."""

import dataclasses
import os
import stat
from pathlib import Path

import cv2
import numpy as np
import pytest

from fleet import label
from fleet.passport import Folder, Passport, PassportError, Sensor, fingerprint

UNIT = "e6614c311b7d4f2a"
KEY = bytes(range(32))
PASSPORT = Passport(
    UNIT, "truck-001", "1.0.0", "micropython 1.29.0 rp2", {"main.py": "0" * 64}, fingerprint(KEY), [{"part": "bmp390"}],
    {"bmp390": Sensor("00ff", {"pressure": 101_325.0})}, "山田", "2026-11-28T01:02:03Z", "ntp", "cruisers",
)  # fmt: skip


def test_a_passport_comes_back_as_it_was_written_and_replaces_the_old_one_whole(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "units")
    assert folder.passport(UNIT) is None
    folder.keep(dataclasses.replace(PASSPORT, truck="truck-000"))
    path = folder.keep(PASSPORT)
    assert folder.passport(UNIT) == PASSPORT
    assert [entry.name for entry in path.parent.iterdir()] == [f"{UNIT}.json"]


def test_a_write_that_fails_leaves_the_old_passport_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path)
    folder.keep(PASSPORT)

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("fleet.passport.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        folder.keep(dataclasses.replace(PASSPORT, version="2.0.0"))
    assert folder.passport(UNIT) == PASSPORT
    assert len(list(tmp_path.iterdir())) == 1


def test_the_key_is_for_its_owner_only_and_not_in_the_passport(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.keep_key(UNIT, KEY)
    path = folder.keep(PASSPORT)
    assert folder.key(UNIT) == KEY
    assert stat.S_IMODE((tmp_path / f"{UNIT}.key").stat().st_mode) == 0o600
    assert KEY.hex() not in path.read_text()


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', '{"format": 1}', '{"format": 1, "sensors": {"x": {}}}'])
def test_a_passport_that_makes_no_sense_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / f"{UNIT}.json").write_text(text)
    with pytest.raises(PassportError, match=f"{UNIT}.json"):
        Folder(tmp_path).passport(UNIT)


def test_a_unit_that_calls_itself_a_path_reaches_no_file(tmp_path: Path) -> None:
    with pytest.raises(PassportError, match="no unique id"):
        Folder(tmp_path).key("../../etc/shadow")


def test_another_moment_or_reading_is_no_news_but_another_chip_is() -> None:
    later = dataclasses.replace(PASSPORT, time="2030-01-01T00:00:00Z", sensors={"bmp390": Sensor("00ff", {"pressure": 99_000.0})})
    assert PASSPORT.proves(later)
    assert not PASSPORT.proves(dataclasses.replace(later, sensors={"bmp390": Sensor("0100", {"pressure": 99_000.0})}))
    assert not PASSPORT.proves(dataclasses.replace(later, truck="truck-002"))


def test_the_label_can_be_read_by_a_camera(tmp_path: Path) -> None:
    path = Folder(tmp_path).keep(PASSPORT)
    picture = cv2.imdecode(np.frombuffer(label.png(UNIT, "truck-001", "1.0.0", path), dtype=np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert cv2.QRCodeDetector().detectAndDecode(picture)[0] == label.code(UNIT, "truck-001", "1.0.0", path)
