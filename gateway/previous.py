"""What the recorders before this one left behind in the spool, for the gaps that their absence made."""

import sys
from collections.abc import Iterable
from pathlib import Path

from logbook import reader

STREAMS = ("readings", "images")


# A recorder that was killed before a source spoke has nothing of it, and a segment may end before it speaks again: so more than the newest
# are looked at, but not all of a camera that was never there.
FOLDERS = 4
SEGMENTS = 2


def last_times(spool: Path, boot: str, topics: Iterable[str]) -> dict[str, int]:
    """Boot time (ns) of the newest message of each of `topics` in the newest spool folders of this kernel boot (`boot`: first 8 hex
    digits of its id); topics without any are absent. Boot times of another kernel boot mean nothing now.

    Only the last segments of each stream are read. Raises OSError."""
    wanted = frozenset(topics)
    folders = [folder for folder in spool.glob(f"{boot}-*") if folder.is_dir()]
    times: dict[str, int] = {}
    for folder in sorted(folders, key=lambda folder: folder.stat().st_mtime_ns, reverse=True)[:FOLDERS]:
        for stream in STREAMS:
            for path in sorted(folder.glob(f"*-{stream}.mcap"), reverse=True)[:SEGMENTS]:
                _look(path, wanted, times)
        if wanted <= times.keys():
            break
    return times


def _look(path: Path, wanted: frozenset[str], times: dict[str, int]) -> None:
    """Takes the newest time of each wanted topic in one segment into `times`."""
    try:
        for message in reader.read(path):
            if message.topic in wanted:
                times[message.topic] = max(message.log_time, times.get(message.topic, 0))
    except reader.SegmentError as error:  # damaged on the disk: recording goes on, the center refuses the file by name
        print(f"recorder: {error}", file=sys.stderr, flush=True)
