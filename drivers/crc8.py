"""Sensirion's CRC-8 over one two-byte word: polynomial 0x31, start 0xFF, most significant bit first, no final xor."""

from drivers.portable import const

_POLYNOMIAL = const(0x31)


def crc8(data: bytes | bytearray | memoryview, offset: int = 0, length: int = 2) -> int:
    """The checksum of `length` bytes of `data` from `offset` (0..255). Allocates nothing."""
    crc = 0xFF
    for index in range(offset, offset + length):
        crc ^= data[index]
        for _ in range(8):
            crc = ((crc << 1) ^ _POLYNOMIAL) & 0xFF if crc & 0x80 else (crc << 1) & 0xFF
    return crc
