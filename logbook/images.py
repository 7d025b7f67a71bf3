"""Images that were packed without loss on the truck (docs/formats.md 2, "Shrunk images"), and the way back to the very bytes of the camera.

A shrunk segment says of each image what the camera's bytes were (SHA-256), so that the way back proves itself. An image that did not come
back bit for bit on the truck was left as it was, and has none."""

import hashlib
import json
import subprocess
from collections.abc import Mapping

import imagecodecs

AS_TAKEN = "as_taken"  # key of a camera channel's metadata: JSON, per message by `sequence` the SHA-256 (hex) of its JPEG as taken, or null
JPEG = "jpeg"
JXL = "jxl"
JPEGTRAN = ("jpegtran", "-copy", "all")  # Debian: libjpeg-turbo-progs
JPEGTRAN_SECONDS = 30.0  # an image takes some milliseconds


class NotRestored(ValueError):
    """An image whose bytes as taken cannot be had back; the text says why."""


def as_taken(metadata: Mapping[str, str], sequence: int) -> str | None:
    """The SHA-256 of the bytes that the camera gave for the message `sequence` of a channel with `metadata`; None where it holds them.
    Raises NotRestored where the metadata does not say."""
    if AS_TAKEN not in metadata:
        return None
    try:
        taken = json.loads(metadata[AS_TAKEN])[sequence - 1]
    except (ValueError, TypeError, LookupError) as error:
        raise NotRestored(f"what message {sequence} was as taken is not told: {error}") from error
    if taken is not None and not isinstance(taken, str):
        raise NotRestored(f"what message {sequence} was as taken is not told: {taken!r}")
    return taken


def viewable(data: bytes, format: str) -> bytes:
    """The image as a JPEG that anybody can show: the same picture, though (format `jpeg`, shrunk) not always the camera's bytes.
    Raises NotRestored."""
    if format == JPEG:
        return data
    if format != JXL:
        raise NotRestored(f"an image of format {format!r}")
    try:
        return bytes(imagecodecs.jpegxl_decode_jpeg(data, numthreads=1))
    except (imagecodecs.JpegxlError, ValueError) as error:
        raise NotRestored(f"JPEG XL: {error}") from error


def restore(data: bytes, format: str, sha256: str | None) -> bytes:
    """The bytes as the camera gave them: of a message's `data` and `format`, and `as_taken` of its channel. Runs jpegtran for images whose
    Huffman tables were optimised: written with the standard tables again they are what they were. Raises NotRestored."""
    if sha256 is None:
        if format != JPEG:
            raise NotRestored(f"an image of format {format!r} that does not say what it was")
        return data
    restored = viewable(data, format) if format != JPEG else jpegtran(data)
    if hashlib.sha256(restored).hexdigest() != sha256:
        raise NotRestored("other bytes came back than were taken")
    return restored


def jpegtran(data: bytes, *options: str) -> bytes:
    """The JPEG `data` through `jpegtran -copy all`: the same picture, all markers kept, Huffman tables as `options` say (standard ones by
    default). Raises NotRestored."""
    try:
        done = subprocess.run([*JPEGTRAN, *options], input=data, capture_output=True, timeout=JPEGTRAN_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotRestored(f"jpegtran: {error}") from error
    if done.returncode or not done.stdout:
        raise NotRestored(f"jpegtran: {done.stderr.decode(errors='replace').strip() or f'exit code {done.returncode}'}")
    return done.stdout
