"""The newest picture of a truck, taken out of the newest segment that has one. The bytes stay as the camera made them."""

from pathlib import Path

from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage

from center.archive import CAMERA, Archive
from center.fleet_state import Picture
from logbook import reader


def newest_picture(archive: Archive, truck: str) -> Picture | None:
    """The last picture that `truck` recorded, of those received. Reads a whole file. Raises OSError, SegmentError."""
    segment = archive.newest_pictured(truck)
    return None if segment is None else last_picture(archive.path(truck, segment.segment_id), segment.segment_id)


def last_picture(path: Path, segment_id: str) -> Picture | None:
    """The last picture in a segment by time of recording; None if there is none."""
    newest: Picture | None = None
    for message in reader.read(path):
        image = message.message
        if not message.topic.startswith(CAMERA) or not isinstance(image, CompressedImage):
            continue
        if newest is None or message.log_time >= newest.boottime_ns:
            camera = message.topic.removeprefix(CAMERA)
            newest = Picture(bytes(image.data), camera, segment_id, message.log_time, message.publish_time)
    return newest
