"""Announcements come from outside: whatever is not a segment of that truck, on this hub, of a possible size, is not followed."""

import pytest

from center.admission import check
from sox.segments import Announcement, BadAnnouncement

HOSTS = ["hub.example", "127.0.0.1"]
GOOD = Announcement(
    "truck-1-0123abcd-89ab4567-000001-readings", "https://127.0.0.1:8443/upload/x", 1000, "ab" * 32, "readings", 1, 2, 0, 0, "truck-1",
)  # fmt: skip


@pytest.mark.parametrize("url", [GOOD.url, "https://hub.example/x", "https://upload.hub.example:5443/x"])
def test_an_address_on_the_hub_or_a_name_below_it_is_followed(url):
    check(GOOD._replace(url=url), "truck-1", HOSTS, 1000)


@pytest.mark.parametrize("changes", [
    {"url": ""}, {"url": "http://127.0.0.1/x"}, {"url": "file:///etc/passwd"}, {"url": "https://evil.example/x"},
    {"url": "https://hub.example.evil.example/x"}, {"url": "https://127.0.0.1@evil.example/x"}, {"url": "https://[broken/x"},
    {"url": "https://nothub.example/x"}, {"url": "https://127.0.0.1:99999/x"}, {"url": "https://127.0.0.1:port/x"},
    {"size": 0}, {"size": 1001}, {"truck": "truck-2"},
])  # fmt: skip
def test_what_does_not_fit_is_refused_in_words_that_do_not_repeat_the_address(changes):
    with pytest.raises(BadAnnouncement) as caught:
        check(GOOD._replace(**changes), "truck-1", HOSTS, 1000)
    assert str(caught.value) and "/x" not in str(caught.value)
