"""Golden segments with every byte cut off and every bit flipped: at most one chunk is lost, it is said, and no tool fails otherwise than by
the errors it documents. The short form takes some hundred bytes of each file, and all of where MCAP alone is blind; the long one every byte
(by `verify` every bit of it)."""

import random
from pathlib import Path

import pytest
from crash_form import LONG

from logbook import channels, files, reader, recovery, scan
from logbook.segment_writer import Entry

pytestmark = pytest.mark.timeout(1_800 if LONG else 100)

GOLDEN = Path(__file__).parents[1] / "logbook" / "golden"
PATHS = [path for path in sorted(GOLDEN.rglob("*.mcap")) if LONG or path.parent == GOLDEN]
SHORT_PLACES = 100


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sync_data", "sync_all", "sync_folder"):
        monkeypatch.setattr(files, name, lambda where: None)


def places(data: bytes) -> list[int]:
    """Offsets to try: in the short form also the mark and the chunk's header of the first chunk."""
    if LONG:
        return list(range(len(data)))
    first = scan.scan(data).chunks[0]
    return sorted({*range(0, len(data), len(data) // SHORT_PLACES), *range(first.mark_start, first.head.data_start)})


def content(path: Path) -> list[Entry]:
    """What was written, without the Gaps that recovery added (the golden readings have one of their own, with another source)."""
    return [Entry(*message[:4]) for message in reader.read(path) if message.topic != channels.GAP]


def opened(folder: Path, name: str, data: bytes) -> Path:
    path = folder / f"{name}.open"
    path.write_bytes(data)
    return path


def gone(report: recovery.Report) -> None:
    report.path.unlink()


@pytest.mark.parametrize("golden", PATHS, ids=lambda path: str(path.relative_to(GOLDEN)))
def test_every_prefix_of_a_segment_keeps_its_whole_chunks(tmp_path: Path, golden: Path) -> None:
    data = golden.read_bytes()
    whole = scan.scan(data)
    ends = [whole.head_end, *(chunk.end for chunk in whole.chunks)]
    messages = [
        [message for message in scan.chunk_messages(data, chunk) if whole.channels[message.channel].topic != channels.GAP]
        for chunk in whole.chunks
    ]
    for cut in [*places(data), *ends, len(data)]:
        report = recovery.recover(opened(tmp_path, golden.name, data[:cut]))
        kept = sum(cut >= end for end in ends[1:])
        assert report.recovered == (cut >= ends[0])
        if report.recovered:
            assert report.kept_chunks == kept and report.damaged_chunks == 0
            assert reader.verify(report.path) == []
            assert [entry.data for entry in content(report.path)] == [message.data for chunk in messages[:kept] for message in chunk]
            assert report.gaps or kept == len(messages), "what may be missing is said"
        gone(report)


@pytest.mark.parametrize("golden", PATHS, ids=lambda path: str(path.relative_to(GOLDEN)))
def test_every_flipped_bit_costs_at_most_its_chunk_and_is_said(tmp_path: Path, golden: Path) -> None:
    data = golden.read_bytes()
    originals = content(golden)
    whole = scan.scan(data)
    each = [sum(whole.channels[m.channel].topic != channels.GAP for m in scan.chunk_messages(data, chunk)) for chunk in whole.chunks]
    sealed = tmp_path / golden.name
    dice = random.Random(1)
    for place in places(data):
        bits = [1 << bit for bit in range(8)] if LONG else [1 << dice.randrange(8)]
        for bit in bits:
            flipped = bytearray(data)
            flipped[place] ^= bit
            sealed.write_bytes(flipped)
            assert reader.verify(sealed), f"byte {place}: a sealed file with a flipped bit passes for whole"
            try:
                assert set(content(sealed)) <= set(originals)
            except reader.SegmentError:
                assert place < whole.head_end or place >= whole.chunks[-1].end
        sealed.unlink()
        report = recovery.recover(opened(tmp_path, golden.name, bytes(flipped)))
        if report.recovered:
            assert reader.verify(report.path) == []
            kept = content(report.path)
            assert set(kept) <= set(originals) and len(originals) - len(kept) <= max(each)
            assert report.gaps or len(kept) == len(originals), f"byte {place}: a chunk is gone and nothing says so"
            assert report.reason != "sealed but not renamed", f"byte {place}: the damage is not mentioned"
        else:
            assert place < whole.head_end and report.gaps and report.path.read_bytes() == flipped
        gone(report)
