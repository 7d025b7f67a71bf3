"""Images packed without loss while the truck is parked: `shrink` of the configuration.

- "huffman": the JPEG's Huffman tables are made for the picture (`jpegtran -copy all -optimize`); it stays a JPEG that anybody can show, and
  `jpegtran -copy all` gives the camera's bytes back where it had used the standard tables. 4 to 13 % (facts: image path).
- "jpeg-xl": the JPEG's coefficients, packed by JPEG XL (imagecodecs); format `jxl`. 18 to 26 %, about six times the work.

Of every image the camera's bytes are restored and compared before its original may go; one that does not come back, or does not get
smaller, stays as it is. No disk in here: contents in, contents out (gateway/sweeper.py writes them, as it writes thinned ones)."""

import dataclasses
import hashlib
import shutil
from collections.abc import Callable

import imagecodecs
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage

from gateway.sweeper_derivation import Derivation, Shrinking
from gateway.sweeper_derive import Content, is_image
from gateway.thinning import GAIN_LEAST, Derived
from logbook import images
from logbook.images import JPEG, JPEGTRAN, JXL, NotRestored


class Interrupted(Exception):
    """The truck is on its way again: what was begun is given up."""


def missing(how: Shrinking) -> str | None:
    """Why images cannot be shrunk so on this machine, in one line; None if they can."""
    if how == "huffman" and shutil.which(JPEGTRAN[0]) is None:
        return "shrink: jpegtran is not installed (Debian: libjpeg-turbo-progs)"
    if how == "jpeg-xl" and not imagecodecs.JPEGXL.available:
        return "shrink: imagecodecs has no JPEG XL on this machine"
    return None


def shrink(content: Content, how: Shrinking, go_on: Callable[[], bool]) -> Derived | None:
    """`content` with its images packed; None if nothing is to gain by it. Asks `go_on` before each image; raises Interrupted."""
    entries = []
    as_taken: dict[str, list[str | None]] = {}
    gained = 0
    for entry in content.entries:
        if is_image(entry.topic):
            if not go_on():
                raise Interrupted
            packed, taken = _packed(entry.data, how)
            as_taken.setdefault(entry.topic, []).append(taken)
            gained += len(entry.data) - len(packed)
            entry = entry._replace(data=packed)
        entries.append(entry)
    costs = sum(70 * len(taken) for taken in as_taken.values()) * 2  # as_taken stands in the head and in the summary
    if gained < GAIN_LEAST + costs:
        return None
    derivation = Derivation("shrink", content.derivation.keep_every, how)
    return Derived(dataclasses.replace(content, as_taken=as_taken), derivation, entries)


def _packed(data: bytes, how: Shrinking) -> tuple[bytes, str | None]:
    """An image message with its JPEG packed, and the SHA-256 of that JPEG; the message as it is, and None, where that is not possible."""
    message = CompressedImage.FromString(data)
    if message.format != JPEG:
        return data, None
    taken = hashlib.sha256(message.data).hexdigest()
    try:
        if how == "huffman":
            packed, format = images.jpegtran(message.data, "-optimize"), JPEG
        else:
            packed, format = bytes(imagecodecs.jpegxl_encode_jpeg(message.data, numthreads=1)), JXL
        if len(packed) >= len(message.data) or images.restore(packed, format, taken) != message.data:
            return data, None
    except (NotRestored, imagecodecs.JpegxlError):  # no JPEG that this tool knows: it stays as the camera gave it
        return data, None
    message.data, message.format = packed, format
    return message.SerializeToString(), taken
