import zlib

from hypothesis import given
from hypothesis import strategies as st

from logbook.crc import combined


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_the_crc_of_joined_bytes_comes_from_those_of_its_parts(first: bytes, second: bytes) -> None:
    assert combined(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


def test_a_part_of_megabytes_is_no_exception() -> None:
    first, second = b"head", bytes(range(256)) * 16_385
    assert combined(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)
