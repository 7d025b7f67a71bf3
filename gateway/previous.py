"""What the recorder before this one left behind in the spool, for the gaps that its absence made."""

import sys
from collections.abc import Iterable
from pathlib import Path

from logbook import reader

STREAMS = ("readings", "images")


def last_times(spool: Path, boot: str, topics: Iterable[str]) -> dict[str, int]:
    """Boot time (ns) of the newest message of each of `topics` in the newest spool folder of this kernel boot (`boot`: first 8 hex
    digits of its id); topics without any are absent. Boot times of another kernel boot mean nothing now.

    Only the last segment of each stream is read. Raises OSError."""
    folders = [folder for folder in spool.glob(f"{boot}-*") if folder.is_dir()]
    if not folders:
        return {}
    newest = max(folders, key=lambda folder: folder.stat().st_mtime_ns)
    wanted = frozenset(topics)
    times: dict[str, int] = {}
    for stream in STREAMS:
        segments = sorted(newest.glob(f"*-{stream}.mcap"))
        if not segments:
            continue
        try:
            for message in reader.read(segments[-1]):
                if message.topic in wanted:
                    times[message.topic] = max(message.log_time, times.get(message.topic, 0))
        except reader.SegmentError as error:  # damaged on the disk: recording goes on, the center refuses the file by name
            print(f"recorder: {error}", file=sys.stderr, flush=True)
    return times
