"""What a camera's bytes must be to be stored as a JPEG (ITU-T T.81): whole, and such that any decoder reads them.

They are stored as they are, from SOI to EOI, with two exceptions. Zeros behind EOI (some USB cameras fill their frames up) are cut off.
And Motion JPEG may leave out the Huffman tables, because it implies the standard ones (T.81 K.3; frames with the AVI1 header):
libjpeg-turbo, and so OpenCV, Foxglove and browsers, fills those in by itself, but libjxl and others refuse such an image. So the
standard tables are inserted before the scan, one segment of 420 bytes. The picture's own bytes stay as they are, and without that
segment the image is the camera's frame again. The camera's event `camera_tables` says where this was done."""

import struct

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
SOF0, DHT, SOS, FILL = 0xC0, 0xC4, 0xDA, 0xFF  # second bytes of markers; a marker may have any number of FILL before its own

_SEGMENT = struct.Struct(">BBH")  # FILL, marker, and the length of what follows the marker

_DC_LUMINANCE = "00 0001050101010101010000000000 0000 000102030405060708090a0b"
_DC_CHROMINANCE = "01 0003010101010101010101000000 0000 000102030405060708090a0b"
_AC_LUMINANCE = """10 0002010303020403050504040000 017d
    01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a
    434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8
    a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa"""
_AC_CHROMINANCE = """11 0002010204040304070504040001 0277
    000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a262728292a3536373839
    3a434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7
    a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa"""
_TABLES = bytes.fromhex(_DC_LUMINANCE + _AC_LUMINANCE + _DC_CHROMINANCE + _AC_CHROMINANCE)

# The segment: each table is its class and id, 16 counts of codes by length, and the values (T.81 B.2.4.2, tables K.3 to K.6).
HUFFMAN_TABLES = bytes((FILL, DHT)) + (len(_TABLES) + 2).to_bytes(2, "big") + _TABLES


def whole(frame: memoryview) -> memoryview | None:
    """The JPEG in the bytes of `frame`, from SOI to EOI without the zeros behind it; None if it is torn. Nothing is copied."""
    if frame[:2].tobytes() != SOI:
        return None
    if frame[-2:].tobytes() == EOI:
        return frame
    frame = frame[: len(frame.tobytes().rstrip(b"\0"))]
    return frame if frame[-2:].tobytes() == EOI else None


def scan_without_tables(jpeg: memoryview) -> int | None:
    """Where the first scan (SOS) of a baseline image begins that has no Huffman tables before it; None for any other image."""
    at, baseline, last = 2, False, len(jpeg) - _SEGMENT.size
    while at <= last:
        fill, marker, length = _SEGMENT.unpack_from(jpeg, at)
        if fill != FILL or marker == DHT:
            return None
        if marker == SOS:
            return at if baseline else None
        baseline = baseline or marker == SOF0
        at += 1 if marker == FILL else 2 + length
    return None
