"""Finding boards: USB ids, the drive of BOOTSEL mode, and what is no UF2 for this chip."""

import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from fleet import boards
from fleet.boards import Board, BoardError

INFO = "UF2 Bootloader v3.0\nModel: Raspberry Pi RP2\nBoard-ID: RPI-RP2\n"


def uf2(count: int = 3, family: int = 0xE48BFF56) -> bytes:
    blocks = []
    for number in range(count):
        head = struct.pack("<8I", 0x0A324655, 0x9E5D5157, 0x2000, 0x1000_0000 + 256 * number, 256, number, count, family)
        blocks.append(head + bytes(476) + struct.pack("<I", 0x0AB16F30))
    return b"".join(blocks)


def usb(monkeypatch: pytest.MonkeyPatch, *ports: tuple[str, int, int, str]) -> None:
    found = [SimpleNamespace(device=device, vid=vendor, pid=product, serial_number=serial) for device, vendor, product, serial in ports]
    monkeypatch.setattr("fleet.boards.list_ports.comports", lambda: found)
    monkeypatch.setattr(boards, "drives", list)
    monkeypatch.setattr(boards, "in_bootsel", lambda: 0)


def test_only_boards_with_micropython_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    usb(monkeypatch, ("/dev/ttyACM1", 0x2E8A, 5, "b"), ("/dev/ttyUSB0", 0x1546, 0x1A9, ""), ("/dev/ttyACM0", 0x2E8A, 5, "a"))
    assert boards.chosen([], every=True) == [Board("/dev/ttyACM0", "a"), Board("/dev/ttyACM1", "b")]
    with pytest.raises(BoardError, match="2 boards .*--all"):
        boards.chosen([], every=False)


def test_where_no_board_is_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    usb(monkeypatch)
    with pytest.raises(BoardError, match="BOOTSEL button"):
        boards.chosen([], every=True)
    monkeypatch.setattr(boards, "in_bootsel", lambda: 1)
    with pytest.raises(BoardError, match="mount it, or install picotool"):
        boards.chosen([], every=True)
    with pytest.raises(BoardError, match="no such port"):
        boards.chosen(["/dev/nothing"], every=False)


def test_a_uf2_goes_whole_to_the_drive_of_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = tmp_path / "RPI RP2"
    drive.mkdir()
    (drive / "INFO_UF2.TXT").write_text(INFO)
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda1 {str(drive).replace(' ', chr(92) + '040')} vfat rw 0 0\n/dev/sdb1 {tmp_path} vfat rw 0 0\n")
    image = tmp_path / "micropython.uf2"
    image.write_bytes(uf2())
    # The board restarts when it has all of it: its drive goes.
    monkeypatch.setattr("fleet.boards.time.sleep", lambda _: (drive / "INFO_UF2.TXT").unlink())
    assert boards.install(image, mounts) == 1
    assert (drive / "micropython.uf2").read_bytes() == uf2()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no UF2"),
        (uf2()[:-1], "a part of one"),
        (uf2()[:-512], "a part of a file"),
        (uf2(family=0xE48BFF59), "not for the RP2040"),
        (b"x" * 512, "damaged"),
    ],
)
def test_a_file_that_the_board_could_not_run_is_not_copied(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "x.uf2"
    path.write_bytes(content)
    with pytest.raises(BoardError, match=why):
        boards.install(path, tmp_path / "no mounts")
