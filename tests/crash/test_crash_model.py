"""A state machine over a model of the disk: writes, changes of segment, failures of any operation, cuts at any change, also in recovery,
in whatever order hypothesis likes. After each cut the judge compares what recovery makes of it with what was acknowledged."""

import errno
import itertools
import random
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from crash_disk import KINDS, Disk, Image
from crash_form import LONG
from crash_judge import START, STEP, Known, entries_of, judge, write_image
from crash_shadow import Shadow
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from logbook import channels, reader, segment
from logbook.recovery import recover_spool
from logbook.segment import Segments

pytestmark = pytest.mark.timeout(1_800 if LONG else 100)

SEED = 9
OPERATIONS = ("write", "sync", "create", "rename", "truncate", "remove")
ROOT = Path(tempfile.gettempdir())


class Spool(RuleBasedStateMachine):
    """One truck's readings over several power cuts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="cruisers-model-", dir=ROOT))
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(segment, "RETRY_SECONDS", (0.001,))
        self.lives = itertools.count(1)
        self.cuts = itertools.count(1)
        self.written = 0
        self.acknowledged = 0
        self.gone: set[int] = set()  # lost in an earlier cut, and said so then
        self.taken: tuple[Image, Known] | None = None
        self._begin({})

    def _begin(self, image: Image) -> None:
        """A recorder starts on what a cut left."""
        life = next(self.lives)
        self.disk = Disk(life)
        self.shadow = Shadow(self.disk, self.folder / f"life-{life}", image)
        self.working = self.shadow.patched()
        self.working.__enter__()
        recover_spool(self.shadow.root)
        numbers = itertools.count(1)
        self.segments = Segments(
            self.shadow.root, "truck-1", "89abcdef-boot", channels.READINGS, f"89abcdef-{life:08x}", lambda: next(numbers), 1e3, 3_000, 0.0,
            on_durable=self._durable, on_sealed=lambda path: None, on_error=lambda error: None,
        )  # fmt: skip

    def _durable(self, token: object) -> None:
        assert token == self.acknowledged or set(range(self.acknowledged, int(str(token)))) <= self.gone
        self.acknowledged = int(str(token)) + 1

    def _idle(self) -> None:
        limit = time.monotonic() + 30
        while self.segments.stats().waiting_bytes or self.segments.stats().stall_s:
            assert time.monotonic() < limit, "the writer does not come to rest"
            time.sleep(0.0005)

    def _known(self) -> Known:
        return Known(self.acknowledged, [0.0] * (self.written - self.acknowledged), self.written, frozenset(self.gone))

    @rule(count=st.integers(1, 4))
    def write(self, count: int) -> None:
        """Some messages, until they are acknowledged."""
        for _ in range(count):
            self.written += 1
            assert self.segments.write_group(entries_of(SEED, channels.READINGS, self.written - 1), self.written - 1)
        self._idle()
        assert self.acknowledged == self.written

    @rule()
    def turn(self) -> None:
        """A new segment begins."""
        self.segments.describe("/imu/block", {"columns": str(self.written)})
        self._idle()

    @rule(
        operation=st.sampled_from(OPERATIONS),
        after=st.integers(0, 5),
        times=st.integers(1, 3),
        code=st.sampled_from([errno.EIO, errno.ENOSPC]),
    )
    def refuse(self, operation: str, after: int, times: int, code: int) -> None:
        """The disk will refuse some of the next operations of a kind."""
        calls = itertools.count()

        def fault(asked: str, path: str) -> int | None:
            return code if asked == operation and after <= next(calls) < after + times else None

        self.disk.fault = fault

    @rule(change=st.integers(1, 12), kind=st.sampled_from(KINDS), seed=st.integers(0, 1 << 16))
    def cut_ahead(self, change: int, kind: str, seed: int) -> None:
        """The power will be cut at one of the next changes of the disk: what it leaves is judged when it is there."""
        self._judge()
        changes = itertools.count(1)

        def on_change() -> None:
            if self.taken is None and next(changes) >= change:
                self.taken = self.disk.image(random.Random(seed), kind), self._known()

        self.disk.on_change = on_change

    @rule(kind=st.sampled_from(KINDS), seed=st.integers(0, 1 << 16), again=st.integers(0, 12))
    def cut_and_start_again(self, kind: str, seed: int, again: int) -> None:
        """A power cut now, another at a change of the recovery from it (0: none), and a recorder that goes on with what is left."""
        self._judge()
        dice = random.Random(seed)
        image, known = self.disk.image(dice, kind), self._known()
        self._end()
        if again:
            disk = Disk(seed)
            shadow = Shadow(disk, self.folder / f"again-{next(self.cuts)}", image)
            changes = itertools.count(1)
            left: list[Image] = []
            disk.on_change = lambda: left.append(disk.image(dice, kind)) if next(changes) == again else None
            with shadow.patched():
                recover_spool(shadow.root)
            image = left[0] if left else disk.image(dice, kind)
        found = self._check(image, known)
        self.gone |= set(range(self.written)) - found
        self.acknowledged = self.written
        self._begin(image)

    @invariant()
    def a_cut_that_came_is_judged(self) -> None:
        """See cut_ahead."""
        self._judge()

    def _judge(self) -> None:
        if self.taken is not None:
            (image, known), self.taken = self.taken, None
            self.disk.on_change = lambda: None
            self._check(image, known)

    def _check(self, image: Image, known: Known) -> set[int]:
        """The judge's verdict on a cut; which messages are there."""
        spool = self.folder / f"cut-{next(self.cuts)}"
        write_image(image, spool)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("os.fsync", lambda fd: None)
            patch.setattr("os.fdatasync", lambda fd: None)
            verdict = judge(spool, SEED, {channels.READINGS: known})
        assert verdict.ok(1.0), str(verdict)
        times = [
            message.log_time for path in spool.glob("*/*.mcap") for message in reader.read(path) if message.topic == channels.HEAD_FRAMES
        ]
        shutil.rmtree(spool)
        return {(time - START) // STEP for time in times}

    def _end(self) -> None:
        self.disk.fault = lambda operation, path: None
        self.segments.close()
        self.working.__exit__(None, None, None)

    def teardown(self) -> None:
        self._judge()
        self._end()
        self.patch.undo()
        shutil.rmtree(self.folder)


TestSpool = Spool.TestCase
TestSpool.settings = settings(
    max_examples=200 if LONG else 8,
    stateful_step_count=30 if LONG else 12,
    deadline=None,
    derandomize=not LONG,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a failure's steps are told as they were found: shrinking takes too long here
    suppress_health_check=list(HealthCheck),
)
