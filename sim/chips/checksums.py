"""Sensirion's CRC-8 (facts/sensors-and-head.md 1.1): polynomial 0x31, start 0xFF, most significant bit first, over each 2-byte word."""


def crc8(data: bytes) -> int:
    """The CRC of `data`; BE EF gives 0x92."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x31) & 0xFF if crc & 0x80 else crc << 1
    return crc


def with_crc(value: int) -> bytes:
    """A 16-bit word, big endian, followed by its CRC."""
    data = value.to_bytes(2, "big")
    return data + bytes([crc8(data)])
