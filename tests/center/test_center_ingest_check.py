"""One reading, one CRC pass: the same word on every file as the reader's, which looks for damage wherever it is."""

import random
import re
from pathlib import Path

import pytest
from center_keeping import Drive, Said

from center.ingest_check import Damaged, Doubt, check, checked
from logbook import reader
from logbook.recovery import recover


@pytest.fixture
def drive(tmp_path):
    return Drive(tmp_path / "spool")


def test_a_whole_segment_is_described_as_the_reader_describes_it(drive, maker):
    for made in (drive.readings(0, 20, [Said(1, 2, 3)]), drive.images(0, [bytes(3_000_000)] * 3), maker.readings(), maker.images([])):
        assert checked(made.path.read_bytes()) == reader.info(made.path)


def test_no_flipped_bit_passes_that_the_reader_finds(drive, tmp_path):
    chance = random.Random(1)
    for made in (drive.readings(0, 3), drive.images(0, [bytes(range(256)) * 8] * 3)):
        whole = made.path.read_bytes()
        for _ in range(150):
            data = bytearray(whole)
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            made.path.write_bytes(data)
            assert same_word(made.path) == "damaged"


def test_no_cut_and_no_missing_chunk_passes(drive):
    made = drive.images(0, [bytes(2_500_000)] * 4)
    whole = made.path.read_bytes()
    first, second, *_ = marks(whole)
    for data in (whole[:-1], whole[: len(whole) // 2], whole[:first] + whole[second:], whole + b"\0", b""):
        made.path.write_bytes(data)
        assert same_word(made.path) == "damaged"


def test_a_segment_that_recovery_has_scarred_is_left_to_the_reader_and_taken(drive, tmp_path):
    made = drive.images(0, [bytes(2_500_000)] * 4)
    data = bytearray(made.path.read_bytes())
    data[marks(data)[0] + 100] ^= 1
    torn = made.path.with_name(made.path.name + ".open")
    torn.write_bytes(data[:-100])
    made.path.unlink()
    recover(torn)
    with pytest.raises(Doubt):
        checked(made.path.read_bytes())
    assert same_word(made.path) == "whole"


def marks(data: bytes) -> list[int]:
    """Where the marks of chunks stand."""
    return [found.start() - 9 for found in re.finditer(b"CRMK", data)]


def same_word(path: Path) -> str:
    """`whole` or `damaged`, by both."""
    problems = reader.verify(path)
    try:
        found = check(path)
    except Damaged as error:
        assert problems, error
        return "damaged"
    assert not problems
    assert found == reader.info(path)
    return "whole"
