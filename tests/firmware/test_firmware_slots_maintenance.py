"""The frame MAINTENANCE: the fan of the particle sensor is off when the head resets, whichever sensor it is; one that is silent is not
waited for without end. In virtual time."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from virtual_head import VirtualHead

from firmware import frames
from firmware.starts import MARKERS
from sim.chips.board import Board
from sim.chips.faces import Log, Source
from sim.clock import Clock
from sim.faults import Fault, Faults
from sim.unit import AIR

MARK = 0x2D4D414E
FAN_OFF = {
    "sps30": lambda chip: chip.core.mode == "sleeping",
    "sps30_i2c": lambda chip: chip.core.mode == "sleeping",
    "pms5003": lambda chip: chip._asleep,
}


class Head(VirtualHead):
    """Asked into maintenance at `at_s`; notes at the reset when it was, in s, and whether the fan was off."""

    def __init__(self, part: str, at_s: float, faults: Sequence[Fault] = ()) -> None:
        self.part = part
        self.asked_us = int(at_s * 1e6)
        self.asked = False
        self.reset_s = 0.0
        self.off = False
        self.samples = 0

        def board(source: Source, log: Log, clock: Clock) -> Board:
            return Board(source, log, clock, Faults(faults), [part])

        super().__init__(lambda t_us: AIR, lambda *told: None, self.gateway, board)
        (Path(self._folder.name) / "parts.json").write_text(f'[{{"part": "{part}"}}]')

    def gateway(self, found: list[frames.Frame], now_us: int) -> bytes:
        self.samples += sum(frame.type == frames.SAMPLE for frame in found)
        if self.asked or now_us < self.asked_us:
            return b""
        self.asked = True
        return frames.pack(frames.MAINTENANCE, 0, 0, 0, 0, bytes(8))

    def request_reset(self) -> None:
        self.off = FAN_OFF[self.part](self.board.chips[self.part])
        self.reset_s = (self.now_us - self.asked_us) / 1e6
        super().request_reset()
        self._reached.set()


def left(part: str, at_s: float, until_s: float, faults: Sequence[Fault] = (), *, words: Path) -> tuple[Head, str]:
    """The head after it has reset, and the marker that it left."""
    words.write_bytes(bytes(16))
    head = Head(part, at_s, faults)
    try:
        head.until(int(until_s * 1e6))
        assert head.errors() == ""
    finally:
        head.stop()
    assert head.resets == 1, (part, head.now_us)
    said = words.read_bytes()
    assert int.from_bytes(said[:4], "little") == MARK
    return head, MARKERS[said[11] - 1]


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The head's memory that survives a reset."""
    path = tmp_path / "words"
    monkeypatch.setenv("CRUISERS_BACKUP", str(path))
    return path


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("part", "at_s", "most_s"),
    [("sps30", 4.0, 2), ("sps30", 0.2, 10), ("sps30_i2c", 4.0, 2), ("pms5003", 1.0, 12)],
    ids=["sps30", "sps30-whose-fan-runs-up", "sps30_i2c", "pms5003-that-warms-up"],
)
def test_the_fan_is_off_when_the_head_resets(part: str, at_s: float, most_s: float, words: Path) -> None:
    head, marker = left(part, at_s, 30, words=words)
    assert head.off and marker == "maintenance"
    assert head.samples or part == "pms5003"
    assert head.reset_s < most_s


@pytest.mark.timeout(120)
def test_a_sensor_that_does_not_answer_holds_the_reset_for_some_seconds_and_the_marker_tells(words: Path) -> None:
    head, marker = left("sps30", 4.0, 40, [Fault(kind="dead", chip="sps30", begin_s=3.5, end_s=1000.0)], words=words)
    assert head.samples and not head.off and marker == "fan running"
    assert 2 < head.reset_s < 14
