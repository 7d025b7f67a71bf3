"""A picture of the archive as the camera made it: out of its segment, bit for bit, also where the truck has packed it."""

from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage

from center.archive import CAMERA, Archive
from logbook import reader
from logbook.images import as_taken, restore
from sox.segments import parse_segment_id


class NoPicture(ValueError):
    """There is no such picture; the text says why."""


def picture(archive: Archive, segment_id: str, camera: str, boottime_ns: int) -> bytes:
    """The JPEG that a row of `images` stands for (its segment, camera and boottime_ns). Its bytes are the camera's: a packed one is proved
    by its SHA-256. Raises NoPicture, logbook.images.NotRestored, OSError."""
    name = parse_segment_id(segment_id)
    if name is None or archive.known(segment_id) is None:
        raise NoPicture(f"no segment {segment_id} in the archive")
    topic = f"{CAMERA}{camera}"
    try:
        with archive.file(name.truck, segment_id) as path:
            for message in reader.read(path):
                if (message.topic, message.log_time) == (topic, boottime_ns) and isinstance(message.message, CompressedImage):
                    image = message.message
                    return restore(bytes(image.data), image.format, as_taken(message.metadata, message.sequence))
    except reader.SegmentError as error:
        raise NoPicture(str(error)) from error
    raise NoPicture(f"no picture of {camera} at {boottime_ns} in {segment_id}")
