"""What the recorders before this one left behind in the spool, for the gaps that their absence made."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from logbook import reader
from logbook.channels import IMAGES, READINGS, camera_topic

# A recorder that was killed before a source spoke has nothing of it, and a segment may end before it speaks again: so more than the newest
# are looked at, but not all of a camera that was never there.
FOLDERS = 4
SEGMENTS = 2


def last_messages(
    spool: Path, boot: str, topics: Iterable[str], counts: Callable[[reader.Message], bool] = lambda message: True
) -> dict[str, reader.Message]:
    """The newest message of each of `topics`, of those that `counts`, in the newest spool folders of this kernel boot (`boot`: first 8 hex
    digits of its id); topics without any are absent. Boot times of another kernel boot mean nothing now.

    Only the last segments of each stream are read, and of images (16 MB each) no more than it takes. Raises OSError."""
    wanted = frozenset(topics)
    cameras = frozenset(topic for topic in wanted if topic.startswith(camera_topic("")))
    folders = [folder for folder in spool.glob(f"{boot}-*") if folder.is_dir()]
    found: dict[str, reader.Message] = {}
    for folder in sorted(folders, key=lambda folder: folder.stat().st_mtime_ns, reverse=True)[:FOLDERS]:
        for stream, asked in ((READINGS, wanted - cameras), (IMAGES, cameras)):
            for path in sorted(folder.glob(f"*-{stream}.mcap"), reverse=True)[:SEGMENTS]:
                if asked <= found.keys():
                    break
                for message in _messages(path):
                    newer = message.topic not in found or message.log_time > found[message.topic].log_time
                    if message.topic in wanted and newer and counts(message):
                        found[message.topic] = message
        if wanted <= found.keys():
            break
    return found


def _messages(path: Path) -> Iterator[reader.Message]:
    """Those of one segment."""
    try:
        yield from reader.read(path)
    except reader.SegmentError as error:  # damaged on the disk: recording goes on, the center refuses the file by name
        print(f"recorder: {error}", file=sys.stderr, flush=True)
