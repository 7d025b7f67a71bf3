"""The newest picture of a truck, taken out of the newest segment that has one: the JPEG as the camera made it, also where the truck has
packed it (docs/formats.md 2, "Shrunk images")."""

import logging
from pathlib import Path

from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage

from center.archive import CAMERA, Archive
from center.fleet_state import Picture
from logbook import reader
from logbook.images import NotRestored, as_taken, restore, viewable

log = logging.getLogger("center.pictures")


def newest_picture(archive: Archive, truck: str) -> Picture | None:
    """The last picture that `truck` recorded, of those received. Reads a whole file. Raises OSError, SegmentError."""
    segment = archive.newest_pictured(truck)
    if segment is None:
        return None
    with archive.file(truck, segment.segment_id) as path:
        return last_picture(path, segment.segment_id)


def last_picture(path: Path, segment_id: str) -> Picture | None:
    """The last picture in a segment by time of recording; None if there is none that can be shown. Raises OSError, SegmentError."""
    newest: reader.Message | None = None
    for message in reader.read(path):
        if not message.topic.startswith(CAMERA) or not isinstance(message.message, CompressedImage):
            continue
        if newest is None or message.log_time >= newest.log_time:
            newest = message
    if newest is None or not isinstance(newest.message, CompressedImage):
        return None
    try:
        jpeg = _jpeg(newest.message, newest)
    except NotRestored as error:
        log.warning("%s: picture at %d: %s", segment_id, newest.log_time, error)
        return None
    return Picture(jpeg, newest.topic.removeprefix(CAMERA), segment_id, newest.log_time, newest.publish_time)


def _jpeg(image: CompressedImage, message: reader.Message) -> bytes:
    """The camera's bytes; where this machine cannot make them again (no jpegtran), the same picture. Raises NotRestored."""
    try:
        return restore(bytes(image.data), image.format, as_taken(message.metadata, message.sequence))
    except NotRestored as error:
        log.warning("picture at %d is shown as it came: %s", message.log_time, error)
        return viewable(bytes(image.data), image.format)
