"""`kill -9` of a real recorder at random moments, with a head that keeps its frames in a ring, as the firmware does."""

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_form import LONG
from gateway_head import HeadStandIn
from gateway_recording import PATIENCE, Recording, start_process, truck, wait_for

from logbook.recovery import last_head_frames

pytestmark = pytest.mark.timeout(900 if LONG else 100)

KILLS = 40 if LONG else 3
RING = 150  # frames: 6 s of this head's, so that some of the absences lose frames


@pytest.fixture
def head(tmp_path: Path) -> Iterator[HeadStandIn]:
    stand_in = HeadStandIn(tmp_path, ring_frames=RING)
    yield stand_in
    stand_in.close()


def test_what_was_acknowledged_to_the_head_is_in_the_spool_once_and_each_hole_is_a_gap(tmp_path: Path, head: HeadStandIn) -> None:
    config = truck(tmp_path, head.link)
    spool = tmp_path / "spool"
    dice = random.Random(20261128)
    for kill in range(KILLS):
        before = head.acknowledged
        process = start_process(config, tmp_path)
        if kill % 3 != 2:  # else it is killed while it starts
            wait_for(lambda before=before: head.acknowledged > before, "acknowledgements")  # type: ignore[misc]
        time.sleep(dice.random())
        with head.lock:
            process.kill()
            process.wait(PATIENCE)
            acknowledged = head.acknowledged
        assert last_head_frames(spool).get(head.boot, 0) >= acknowledged
        if kill % 3 == 1:
            dropped = head.dropped
            wait_for(lambda dropped=dropped: head.dropped > dropped + 5, "a full ring")  # type: ignore[misc]
    process = start_process(config, tmp_path)
    before = head.acknowledged
    wait_for(lambda: head.acknowledged > before, "acknowledgements")
    head.sampling = False
    wait_for(lambda: head.acknowledged == head.sequence, "the rest being acknowledged")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    recording = Recording(spool)
    sequences = recording.sequences()
    assert set(sequences.values()) == {1}, "no frame twice"
    held = {number for _, number in sequences}
    missing = [number for number in range(1, head.sequence + 1) if number not in held]
    assert 0 < len(missing) <= head.dropped, "only what the ring dropped is missing (not all of it: some was on disk)"
    assert sum(gap.count for gap in recording.gaps("head")) == len(missing), "and every hole is a Gap"
    assert recording.imu_numbers == sorted(set(recording.imu_numbers))
    samples_missing = recording.imu_numbers[-1] + 1 - len(recording.imu_numbers)
    assert samples_missing == 0 or recording.gaps("icm20948")
