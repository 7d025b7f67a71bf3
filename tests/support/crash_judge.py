"""The judge of a power cut: recovers what a cut left, and compares it with the oracle.

The oracle knows of each stream how many messages were acknowledged before the cut (tokens come back in order), and when each later one
was written. Message n of a stream is made from a seed, so the judge can make it again and need not be told its bytes. From Vector's tests
(an acknowledged write is an obligation): each obligation is delivered, each message delivered is known and whole, each hole is said."""

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from crash_disk import Image
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from mcap.reader import make_reader
from mcap.stream_reader import StreamReader

from logbook import channels, reader, recovery
from logbook.schemas.cruisers_pb2 import Gap, HeadFrames, Reading
from logbook.segment_writer import Entry

CAMERA = "/camera/front"
HEAD_BOOT = 77
START = 1_000_000_000_000
STEP = 10_000_000  # ns of log_time from message to message
TOPICS = {channels.READINGS: "/reading/bmp390", channels.IMAGES: CAMERA}


@lru_cache(maxsize=4_000)
def entries_of(seed: int, stream: str, number: int) -> list[Entry]:
    """Message `number` (from 0) of a stream, and for readings the record of its head frame: one group."""
    dice = random.Random(f"{seed} {stream} {number}")
    at = START + number * STEP
    utc = dice.choice([0, 1_790_000_000_000_000_000 + at])
    if stream == channels.IMAGES:
        image = CompressedImage(frame_id="front", data=dice.randbytes(dice.choice([300, 4_000, 16_000])), format="jpeg")
        return [Entry(CAMERA, at, utc, image.SerializeToString())]
    raw = dice.randbytes(dice.randrange(1, 200))
    sample = Reading(sensor="bmp390", head_boot=HEAD_BOOT, sequence=number + 1, boottime_ns=at, raw=raw)
    frames = HeadFrames(head_boot=HEAD_BOOT, first_sequence=number + 1, last_sequence=number + 1)
    return [Entry(TOPICS[stream], at, utc, sample.SerializeToString()), Entry(channels.HEAD_FRAMES, at, utc, frames.SerializeToString())]


@dataclass
class Known:
    """What the oracle knows of one stream at a cut. `ages`: s since each message from number `acknowledged` on was written, as far as it
    was before the cut; `upper`: how many were written when the cut was over; `refused`: numbers that found no memory; `stall`: s that the
    disk has been at its present work; `lag`: s for which the truck's process could not run since the first of `ages`."""

    acknowledged: int
    ages: list[float]
    upper: int
    refused: frozenset[int] = frozenset()
    stall: float = 0.0
    lag: float = 0.0


@dataclass
class Verdict:
    """What the judge found of one cut. `loss`: age in s of the oldest message that is missing, `stall` the disk's of that stream."""

    acknowledged: int = 0
    lost: int = 0
    loss: float = 0.0
    beyond: float = 0.0  # loss without the disk's stall and the machine's lag
    ranges: int = 0
    reported: int = 0
    wrong: int = 0
    damaged: int = 0  # chunks, and tails cut
    problems: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)

    def ok(self, allowed: float) -> bool:
        """Whether the promises hold, with `allowed` s of unacknowledged loss beyond the disk's stall."""
        return not (self.lost or self.wrong or self.problems or self.ranges != self.reported or self.beyond > allowed)


def write_image(image: Image, folder: Path) -> None:
    """The files and folders of a cut's image, in an ordinary folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, data in image.items():
        target = folder / path
        if path.endswith("/"):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


def judge(spool: Path, seed: int, known: dict[str, Known]) -> Verdict:
    """Recovers the spool and judges what it holds."""
    verdict = Verdict()
    told: list[Gap] = []
    for report in recovery.recover_spool(spool):
        verdict.damaged += report.damaged_chunks + bool(report.cut_bytes)
        if report.error:
            verdict.problems.append(f"{report.path.name}: {report.error}")
        if not report.recovered:
            told += report.gaps
    before = _contents(spool)
    if recovery.recover_spool(spool) or _contents(spool) != before:
        verdict.problems.append("a second recovery changed something")
    found: dict[str, list[Entry]] = {stream: [] for stream in known}
    newest: dict[tuple[Path, str], int] = {}
    ends: list[tuple[Path, str, int]] = []
    for path in sorted(spool.glob("*/*.mcap")):
        problems, entries = _file(path, before[str(path.relative_to(spool))])
        verdict.problems += [f"{path.name}: {problem}" for problem in problems]
        stream = path.name.removesuffix(".mcap").partition("-")[2]
        gaps = [Gap.FromString(entry.data) for entry in entries if entry.topic == channels.GAP]
        told += gaps
        found[stream] += [entry for entry in entries if entry.topic != channels.GAP]
        newest[path.parent, stream] = max([newest.get((path.parent, stream), 0), *(e.log_time for e in entries if e.topic != channels.GAP)])
        ends += [(path.parent, stream, gap.from_boottime_ns) for gap in gaps if gap.from_boottime_ns and not gap.to_boottime_ns]
    for folder, stream, end in ends:
        if newest[folder, stream] > end:
            verdict.problems.append(f"{stream}: a gap says that nothing of this recorder follows {end}, and something does")
    for stream, knows in known.items():
        _judge_stream(verdict, stream, seed, knows, found[stream], [gap for gap in told if gap.source == stream])
    durable = recovery.last_head_frames(spool).get(HEAD_BOOT, 0)
    whole = [entry for entry in found.get(channels.READINGS, []) if entry.topic == channels.HEAD_FRAMES]
    if durable != max((HeadFrames.FromString(entry.data).last_sequence for entry in whole), default=0):
        verdict.problems.append(f"head frames up to {durable} are said to be durable")
    return verdict


_files: dict[bytes, tuple[list[str], list[Entry]]] = {}  # the cuts of one life share most of their files


def _file(path: Path, data: bytes) -> tuple[list[str], list[Entry]]:
    """What is wrong with a sealed file, by us and by the readers of the package `mcap`; and its messages."""
    key = hashlib.sha256(data).digest()
    if key not in _files:
        if len(_files) > 200:
            _files.clear()
        problems = [*reader.verify(path), *_mcap_problems(path)]
        _files[key] = problems, [Entry(*message[:4]) for message in reader.read(path)]
    return _files[key]


def _contents(spool: Path) -> dict[str, bytes]:
    return {str(path.relative_to(spool)): path.read_bytes() for path in spool.rglob("*") if path.is_file()}


def _mcap_problems(path: Path) -> list[str]:
    """What the readers of the package `mcap` say of a sealed file, with their CRC validation."""
    try:
        with path.open("rb") as file:
            seeking = sum(1 for _ in make_reader(file, validate_crcs=True).iter_messages())
        with path.open("rb") as file:
            streamed = sum(type(record).__name__ == "Message" for record in StreamReader(file, validate_crcs=True).records)
    except Exception as error:  # noqa: BLE001 (whatever a stranger's reader raises is the finding)
        return [f"mcap's reader: {type(error).__name__}: {error}"]
    return [] if seeking == streamed else [f"mcap's readers see {seeking} and {streamed} messages"]


def _judge_stream(verdict: Verdict, stream: str, seed: int, knows: Known, found: list[Entry], gaps: list[Gap]) -> None:
    numbered: dict[int, list[Entry]] = {}
    for entry in found:
        numbered.setdefault((entry.log_time - START) // STEP, []).append(entry)
    for number, got in numbered.items():
        known = 0 <= number < knows.upper and number not in knows.refused
        verdict.wrong += not known or Counter(got) != Counter(entries_of(seed, stream, number))
    verdict.acknowledged += sum(number not in knows.refused for number in range(knows.acknowledged))
    verdict.lost += sum(number not in numbered and number not in knows.refused for number in range(knows.acknowledged))
    written = knows.acknowledged + len(knows.ages)
    missing = [number for number in range(written) if number not in numbered and number not in knows.refused]
    late = [knows.ages[number - knows.acknowledged] for number in missing if number >= knows.acknowledged]
    if late:
        verdict.loss = max(verdict.loss, *late)
        verdict.beyond = max(verdict.beyond, max(late) - knows.stall - knows.lag)
    for first, last in _runs(missing):
        verdict.ranges += 1
        if any(_covers(gap, START + first * STEP, START + last * STEP) for gap in gaps):
            verdict.reported += 1
        else:
            verdict.details.append(f"{stream}: nothing says that {first} to {last} of {written} are missing")


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Consecutive numbers as (first, last)."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _covers(gap: Gap, first: int, last: int) -> bool:
    return gap.from_boottime_ns <= first and (not gap.to_boottime_ns or gap.to_boottime_ns >= last)
