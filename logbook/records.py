"""The records of a segment file as bytes: what `mcap.records` has is taken from there, the rest (chunks, marks) is here.

Layout and reasons: logbook/segment.py."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import zstandard
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import McapRecord

from logbook.crc import combined

MAGIC = b"\x89MCAP0\r\n"
MARK_OPCODE = 0x80
SCAR_OPCODE = 0x81
MARK_TEXT = b"CRMK"
SCAR_TEXT = b"CRSC"

RECORD = struct.Struct("<BQ")  # opcode, length of the content
MARK = struct.Struct("<BQ4sIQQI")  # opcode, length, text, sequence, own offset, length of the Chunk record, CRC-32
SCAR = struct.Struct("<BQ4sQI")  # opcode, length, text, own offset, CRC-32 of the 21 bytes before it
MESSAGE = struct.Struct("<BQHIQQ")
_CHUNK_HEAD = struct.Struct("<QQQII")  # start, end, uncompressed size, its CRC, length of the compression's name
_U64 = struct.Struct("<Q")

# A chunk is at most a commit (4 MB) or one image; a larger claim is damage or an attack, not something to allocate.
MAX_CHUNK_BYTES = 256_000_000

# A record that readers skip, put at the end of a chunk's content to move a CRC away from 0 (0 would mean damage).
_FILLER = RECORD.pack(SCAR_OPCODE, 0)

ZSTD = "zstd"
UNCOMPRESSED = ""


class DamagedChunk(ValueError):
    """A chunk whose content does not match its own header."""


class RawMessage(NamedTuple):
    """A message as it stands in a chunk; times in ns."""

    channel: int
    sequence: int
    log_time: int
    publish_time: int
    data: bytes


class ChunkHead(NamedTuple):
    """The header of a Chunk record and where in the file its data is."""

    first_time: int
    last_time: int
    size: int
    crc: int
    compression: str
    data_start: int
    data_end: int


class MarkedChunk(NamedTuple):
    """A mark and the Chunk record behind it, as they go to the file: mark, `head` (the record up to its data) and the parts of `data`,
    which are `stored` bytes of CRC-32 `crc`. `size` is that of the uncompressed content."""

    mark: bytes
    head: bytes
    data: Sequence[bytes]
    size: int
    stored: int
    crc: int


def encoded(record: McapRecord) -> bytes:
    """The bytes of one record of `mcap.records`."""
    builder = RecordBuilder()
    record.write(builder)
    return bytes(builder.end())


def message_head(channel: int, sequence: int, log_time: int, publish_time: int, size: int) -> bytes:
    """One Message record up to its data of `size` bytes."""
    return MESSAGE.pack(Opcode.MESSAGE, MESSAGE.size - RECORD.size + size, channel, sequence, log_time, publish_time)


def marked_chunk(sequence: int, offset: int, content: Sequence[bytes], first_time: int, last_time: int, compression: str) -> MarkedChunk:
    """The mark and the Chunk record that stand at `offset`, around `content` (message records, in any parts); it grows by fillers until
    neither's CRC is 0 (0 would mean damage). Content that is not compressed is neither copied nor summed twice."""
    parts = list(content)
    while True:
        size = sum(map(len, parts))
        crc = _crc(parts)
        data, data_crc = parts, crc
        if compression:
            data = [_compress(b"".join(parts), compression)]
            data_crc = zlib.crc32(data[0])
        stored = sum(map(len, data))
        name = compression.encode()
        head = _CHUNK_HEAD.pack(first_time, last_time, size, crc, len(name)) + name + _U64.pack(stored)
        head = RECORD.pack(Opcode.CHUNK, len(head) + stored) + head
        start = MARK.pack(MARK_OPCODE, MARK.size - RECORD.size, MARK_TEXT, sequence, offset, len(head) + stored, 0)[:-4]
        mark_crc = combined(zlib.crc32(head, zlib.crc32(start)), data_crc, stored)
        if crc and mark_crc:
            return MarkedChunk(start + struct.pack("<I", mark_crc), head, data, size, stored, data_crc)
        parts.append(_FILLER)


def scar(offset: int, stretch_length: int) -> bytes:
    """What recovery writes over the first 25 bytes of a damaged stretch, so that readers skip all of it."""
    head = SCAR.pack(SCAR_OPCODE, stretch_length - RECORD.size, SCAR_TEXT, offset, 0)[:-4]
    return head + struct.pack("<I", zlib.crc32(head))


def parse_chunk_head(data: bytes, start: int, end: int) -> ChunkHead:
    """The header of the Chunk record at data[start:end]; raises DamagedChunk."""
    fixed = start + RECORD.size + _CHUNK_HEAD.size
    if end - start < RECORD.size + _CHUNK_HEAD.size + 8:
        raise DamagedChunk("chunk record too short")
    opcode, length = RECORD.unpack_from(data, start)
    first, last, size, crc, name_length = _CHUNK_HEAD.unpack_from(data, start + RECORD.size)
    if opcode != Opcode.CHUNK or start + RECORD.size + length != end or fixed + name_length + 8 > end:
        raise DamagedChunk("chunk record with wrong lengths")
    name = bytes(data[fixed : fixed + name_length])
    (data_length,) = _U64.unpack_from(data, fixed + name_length)
    data_start = fixed + name_length + 8
    if data_start + data_length != end or name not in (b"", b"zstd"):
        raise DamagedChunk("chunk record with a wrong length or compression")
    return ChunkHead(first, last, size, crc, name.decode(), data_start, end)


def chunk_content(data: bytes, head: ChunkHead) -> bytes:
    """The uncompressed content of a chunk in the file's bytes `data`; raises DamagedChunk."""
    if head.size > MAX_CHUNK_BYTES:
        raise DamagedChunk(f"chunk claims {head.size} bytes")
    stored = data[head.data_start : head.data_end]
    if head.compression == ZSTD:
        try:
            if zstandard.get_frame_parameters(stored).content_size != head.size:
                raise DamagedChunk("chunk with another size than its header says")
            stored = zstandard.ZstdDecompressor().decompress(stored)
        except zstandard.ZstdError as error:
            raise DamagedChunk(f"chunk does not decompress: {error}") from error
    if len(stored) != head.size or head.crc == 0 or zlib.crc32(stored) != head.crc:
        raise DamagedChunk("chunk content does not match its CRC")
    return stored


def messages(content: bytes) -> Iterator[RawMessage]:
    """The messages in a chunk's content; raises DamagedChunk where its records do not fit each other."""
    position = 0
    while position < len(content):
        if position + RECORD.size > len(content):
            raise DamagedChunk("record cut inside a chunk")
        opcode, length = RECORD.unpack_from(content, position)
        end = position + RECORD.size + length
        if end > len(content) or (opcode == Opcode.MESSAGE and length < MESSAGE.size - RECORD.size):
            raise DamagedChunk("record with a wrong length inside a chunk")
        if opcode == Opcode.MESSAGE:
            _, _, channel, sequence, log_time, publish_time = MESSAGE.unpack_from(content, position)
            yield RawMessage(channel, sequence, log_time, publish_time, content[position + MESSAGE.size : end])
        position = end


def _crc(parts: Sequence[bytes]) -> int:
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return crc


def _compress(content: bytes, compression: str) -> bytes:
    if compression == ZSTD:
        return zstandard.ZstdCompressor(write_content_size=True).compress(content)
    raise ValueError(f"no compression {compression!r}")
