"""How a truck or the center reaches the hub: the configuration's part, the password's file, the waits between two tries."""

from pathlib import Path

import msgspec
import pytest

from sox.account import BACK_OFF_MOST_SECONDS, Hub, back_off
from sox.errors import SoxError


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    for name in ("ca", "password"):
        (tmp_path / name).write_text("x\n")
    return Hub("hub.test", "127.0.0.1", 5222, str(tmp_path / "ca"), str(tmp_path / "password"))


def test_back_off_grows_is_jittered_and_bounded() -> None:
    waits = [[back_off(failures) for _ in range(50)] for failures in (1, 2, 5, 20, 10_000)]
    assert all(max(wait) <= BACK_OFF_MOST_SECONDS and min(wait) > 0 for wait in waits)
    assert all(len(set(wait)) > 10 for wait in waits)
    assert max(waits[0]) < min(waits[2]) and min(waits[4]) >= BACK_OFF_MOST_SECONDS / 2


@pytest.mark.parametrize("port", [0, 65536, "5222"])
def test_a_port_that_cannot_be_is_refused_on_reading(port: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"domain": "d", "host": "h", "port": port, "ca_file": "c", "password_file": "p"}, Hub)


def test_a_password_that_cannot_be_read_is_an_error_of_the_hub_and_not_of_the_program(hub: Hub) -> None:
    assert hub.client("truck-1").jid == "truck-1@hub.test"
    Path(hub.password_file).write_bytes(b"\xff\xfe")
    with pytest.raises(SoxError, match="not text in UTF-8"):
        hub.client("truck-1")
    Path(hub.password_file).unlink()
    with pytest.raises(SoxError, match="No such file"):
        hub.client("truck-1")


def test_the_first_file_that_cannot_be_read_is_named(hub: Hub) -> None:
    assert hub.unreadable_file() is None
    Path(hub.ca_file).unlink()
    assert hub.unreadable_file() == f"{hub.ca_file}: No such file or directory"
