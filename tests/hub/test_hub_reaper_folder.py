"""What the reaper may touch on the disk, and how a disk that refuses is borne."""

import os
import time

import pytest

from hub.reaper_books import MOST, Books
from hub.reaper_decide import Reaping
from hub.reaper_folder import Folder, Object, object_of, owner_of
from sox.segments import STORED, Announcement, Receipt

OWNER = owner_of("truck-1@cruisers.test")
SECRET = "s" * 40


@pytest.fixture
def docroot(tmp_path):
    folder = tmp_path / "upload"
    (folder / OWNER / SECRET).mkdir(parents=True)
    (folder / OWNER / SECRET / "a.mcap").write_bytes(b"abc")
    return folder


def test_the_folder_of_a_truck_is_the_one_that_ejabberd_makes():
    assert owner_of("truck-1@cruisers.test") == "502ad17027cf5ef8e492fd25af689be77c6b322b"


@pytest.mark.parametrize("url", [
    "", "/", "https://hub/upload", f"https://hub/{OWNER}/{SECRET}", f"https://hub/{OWNER}/{SECRET}/", f"https://hub/{OWNER}/../a.mcap",
    f"https://hub/{OWNER}/{SECRET}/..", f"https://hub/{OWNER}/{SECRET}/.", f"https://hub/{OWNER}/{SECRET}/a%2fb",
    f"https://hub/{OWNER}/{SECRET}/a\0b", f"https://hub/{OWNER.upper()}/{SECRET}/a", f"https://hub/{OWNER}/short/a",
    f"https://hub/{owner_of('truck-2@cruisers.test')}/{SECRET}/a", f"https://[hub/{OWNER}/{SECRET}/a", f"https://hub/{OWNER}/{SECRET}/a/b",
])  # fmt: skip
def test_an_address_that_is_not_one_of_the_trucks_objects_is_none(url):
    assert object_of(url, OWNER) is None


def test_the_address_of_an_object_gives_its_place_whatever_stands_before_it():
    for before in ("https://127.0.0.1:5443/upload", "https://hub-2.city.example", "https://hub/a/b"):
        assert object_of(f"{before}/{OWNER}/{SECRET}/a.mcap?x#y", OWNER) == Object(OWNER, SECRET, "a.mcap")


def test_symbolic_links_are_not_followed_and_not_counted(docroot, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / SECRET).mkdir(parents=True)
    (elsewhere / SECRET / "a.mcap").write_bytes(b"abc")
    linked_owner = owner_of("truck-2@cruisers.test")
    (docroot / linked_owner).symlink_to(elsewhere)
    (docroot / OWNER / ("t" * 40)).symlink_to(elsewhere / SECRET)
    (docroot / OWNER / ("u" * 40)).mkdir()
    (docroot / OWNER / ("u" * 40) / "a.mcap").symlink_to(elsewhere / SECRET / "a.mcap")
    folder = Folder(docroot)
    for found in (Object(linked_owner, SECRET, "a.mcap"), Object(OWNER, "t" * 40, "a.mcap"), Object(OWNER, "u" * 40, "a.mcap")):
        assert folder.remove(found) is None
    assert [seen.object.secret for seen in folder.look(OWNER)] == [SECRET] and folder.look(linked_owner) == []
    assert (elsewhere / SECRET / "a.mcap").exists()


def test_an_object_is_removed_with_its_folder_once_and_only_at_its_size(docroot):
    folder, found = Folder(docroot), Object(OWNER, SECRET, "a.mcap")
    assert folder.remove(found, 4) is None and folder.remove(found, 3) == 3 and folder.remove(found, 3) is None
    assert os.listdir(docroot / OWNER) == []


def test_ages_are_those_of_the_file_systems_clock(docroot):
    file = docroot / OWNER / SECRET / "a.mcap"
    os.utime(file, (time.time() - 100,) * 2)
    (seen,) = Folder(docroot).look(OWNER)
    assert 99 < seen.age_s < 3600 and seen.size == 3


def test_a_folder_that_cannot_be_read_is_counted_and_the_rest_goes_on(docroot, tmp_path):
    reaping = Reaping(Folder(docroot), 1.0, 1.0)
    Folder(docroot).look(OWNER)
    docroot.rename(tmp_path / "away")
    announced = Announcement(
        "truck-1-0000abcd-0000ef01-000001-readings", f"https://hub/{OWNER}/{SECRET}/a.mcap", 3, "0" * 64, "readings", 0, 0, 0, 0, "truck-1"
    )
    books = Books()
    books.receipted(Receipt(announced.segment_id, STORED, "0" * 64, 3, ""), 0)
    reaping._books[OWNER] = books
    for found in books.announced(Object(OWNER, SECRET, "a.mcap"), announced):
        assert not reaping._remove(found, "receipted", 3)
    assert reaping.counts["disk errors"] == 1
    (tmp_path / "away").rename(docroot)
    reaping.begin([OWNER])
    reaping.looked(OWNER, Folder(docroot).look(OWNER))  # tried again
    assert reaping.removed()["receipted"] == {"objects": 1, "bytes": 3}


def test_a_truck_that_announces_without_end_costs_no_more_than_a_limit():
    books = Books()
    blank = Announcement("", "", 3, "0" * 64, "readings", 0, 0, 0, 0, "truck-1")
    for number in range(MOST + 50):
        books.announced(Object(OWNER, f"{number:040}", "a"), blank._replace(segment_id=f"s{number}"))
        books.receipted(Receipt(f"s{number}", "refused", "0" * 64, 3, ""), 0)
    assert len(books._contents) == len(books._answers) == len(books._objects) == MOST
