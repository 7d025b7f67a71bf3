"""For tests of the center: a segment of a truck, and how it comes into the archive."""

import shutil
from pathlib import Path
from typing import NamedTuple

from center.archive import Archive, Stored
from logbook import reader
from sox.segments import Announcement


class Made(NamedTuple):
    """A sealed segment on the truck, and what its announcement says."""

    path: Path
    announcement: Announcement


def keep(archive: Archive, made: Made) -> Stored:
    """Store a segment of the truck as if it had been fetched and verified."""
    part = archive.incoming(made.announcement.segment_id)
    shutil.copy(made.path, part)
    return archive.store(part, made.announcement, reader.info(part))
