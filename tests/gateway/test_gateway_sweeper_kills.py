"""The sweeper is killed (SIGKILL, in a process of its own) before every single step it takes: nothing is lost, nothing stands twice."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from gateway_sweeper_parts import (
    FOLDER,
    deliver,
    gaps,
    images,
    kept_images,
    ledger_of,
    present,
    readings,
    truck,
    uplink,
    without_syncs,
)

from gateway import sweeper_derive, sweeper_work
from gateway.ledger import Ledger
from gateway.sweeper import Sweeper
from gateway.sweeper_disk import spooled_bytes
from gateway.uplink_scan import sealed_paths
from gateway.uplink_socket import Line
from logbook import files, reader
from logbook.recovery import recover_spool

pytestmark = pytest.mark.timeout(120)
COUNT = 20


def steps(monkeypatch: pytest.MonkeyPatch, before: Callable[[str], None]) -> None:
    """`before` is called with the name of everything that the sweeper is about to do to the disk or to say to the uplink."""

    def watch(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def watched(*args: object, **kwargs: object) -> object:
            before(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    for name in ("write_whole", "sync_data", "sync_all", "sync_folder", "make_folder"):
        watch(files, name)
    watch(sweeper_derive, "publish")
    monkeypatch.setattr(sweeper_work, "publish", sweeper_derive.publish)
    watch(sweeper_work, "remove")
    watch(Line, "ask")
    watch(Path, "rename")
    watch(Path, "unlink")


def sweep_in_a_process(spool: Path, quota: int, monkeypatch: pytest.MonkeyPatch, kill_before: int, segment_bytes: int = 1) -> bool:
    """One sweep, killed before its step `kill_before` (1, 2, 3, …); True if it came to its end."""
    child = os.fork()
    if child == 0:
        count = 0

        def before(name: str) -> None:
            nonlocal count
            count += 1
            if count == kill_before:
                os.kill(os.getpid(), signal.SIGKILL)

        steps(monkeypatch, before)
        Sweeper(truck(spool, quota, images_segment_bytes=segment_bytes)).sweep()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return not os.WIFSIGNALED(status)


def to_upload(ledger: Ledger) -> list[str]:
    """What an uplink would send now, in its order."""
    order: list[str] = []
    while (segment := ledger.next_upload(frozenset(order))) is not None:
        order.append(segment.segment_id)
    return order


@pytest.mark.parametrize("step", ["thinning", "merging", "drop"])
def test_a_kill_before_any_step_loses_nothing_and_sends_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    monkeypatch.setattr(sweeper_work, "RECORD_COSTS", 8_000)
    without_syncs(monkeypatch)
    killed = 0
    for kill_before in range(1, 200):
        spool = tmp_path / str(kill_before)
        readings(spool, 1, 0, [("shock", 105.0)])
        identities = [images(spool, number, 100 * number, count=COUNT) for number in (1, 2)]
        ledger = ledger_of(spool)
        if step == "drop":
            for identity in identities:
                ledger.tried(identity, 64, False)
        quota = spooled_bytes(spool) - 1_000
        with uplink(spool, ledger) as hub:
            ended = sweep_in_a_process(spool, quota, monkeypatch, kill_before, 10**9 if step == "merging" else 1)
            assert not recover_spool(spool), "a recorder that starts now finds nothing to seal"
            with Line(spool) as line:  # the next look of the uplink
                line.ask({"tell": "look"})
            waiting = to_upload(ledger)
            held = {identity: spool / path for identity, path in _paths(spool).items()}
            times = [m.log_time for identity in waiting for m in reader.read(held[identity]) if m.topic == "/camera/front"]
            told = [m.message.count for identity in waiting for m in reader.read(held[identity]) if m.topic == "/gap"]  # type: ignore[union-attr]
            assert len(times) == len(set(times)), f"step {kill_before}: an image would be sent twice"
            assert len(times) + sum(told) == 2 * COUNT, f"step {kill_before}: an image is neither there nor told"
            assert not hub.desk.taken, "the kernel gave back what was taken"
            assert Sweeper(truck(spool, quota)).sweep() is None  # the next start
        assert all(reader.verify(path) == [] for path in spool.glob("[!.]*/*.mcap"))
        assert not list(spool.glob(".deriving/*/*")), "nothing half-written is left"
        assert len(kept_images(spool)) + sum(gap.count for gap in gaps(spool)) == 2 * COUNT
        assert sorted(waiting) != [] and {segment_id for segment_id in to_upload(ledger)} == set(_paths(spool)), "the folder is the ledger"
        dropped = ledger.totals().dropped
        assert dropped["thinned_images"] + dropped["dropped_images"] == sum(gap.count for gap in gaps(spool)), "counted once"
        ledger.close()
        killed += not ended
        if ended:
            break
    assert killed > 15, f"only {killed} steps were watched"


def test_a_kill_and_a_lost_ledger_do_not_bring_a_replaced_original_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images(tmp_path, 1, 100, count=COUNT)
    ledger = ledger_of(tmp_path)
    quota = spooled_bytes(tmp_path) - 1_000
    with uplink(tmp_path, ledger):
        for kill_before in range(1, 200):  # until the derived segment has its name and the original is still there
            sweep_in_a_process(tmp_path, quota, monkeypatch, kill_before)
            if len(sealed_paths(tmp_path)) == 2:
                break
    ledger.close()
    for path in tmp_path.glob("ledger.sqlite*"):
        path.unlink()
    for path in tmp_path.glob("[!.]*/*.mcap"):
        os.utime(path, (1, 1) if path.parent.name != FOLDER else (2, 2))  # and the clock was wrong
    ledger = ledger_of(tmp_path)
    (derived,) = to_upload(ledger)
    assert FOLDER not in derived
    with uplink(tmp_path, ledger):
        assert Sweeper(truck(tmp_path)).sweep() is None
    assert len(present(tmp_path)) == 1 and len(kept_images(tmp_path)) == COUNT // 2
    ledger.close()


def test_an_uplink_that_is_killed_and_begins_to_send_what_was_taken_keeps_one_of_the_two(tmp_path: Path) -> None:
    """The lease ends with the uplink. The next one uploads the original before the sweeper's derived segment has its place."""
    identity = images(tmp_path, 1, 100, count=COUNT)
    ledger = ledger_of(tmp_path)
    segment = sweeper_work.Offered(identity, f"{FOLDER}/000001-images.mcap", 1, 1)
    work = sweeper_work.Work(truck(tmp_path))
    with uplink(tmp_path, ledger), Line(tmp_path) as line:
        line.ask({"ask": "take", "segment_ids": [identity]})
        derived = work._thinned(line, segment)
        assert derived is not None
        written, place = work._write(derived, [identity], segment.path, 1_000, 0)
    ledger.uploaded(identity, "https://hub.test/x")
    sweeper_derive.publish(written, place)
    with uplink(tmp_path, ledger), Line(tmp_path) as line:
        line.ask({"tell": "look"})
        assert Sweeper(truck(tmp_path)).sweep() is None
        deliver(ledger, identity)
    assert present(tmp_path) == [f"{FOLDER}/000001-images"] and to_upload(ledger) == []
    assert ledger.totals().dropped["thinned_images"] == 0
    ledger.close()


def test_an_uplink_that_gives_away_what_was_taken_is_noticed_before_the_derived_segment_has_a_place(tmp_path: Path) -> None:
    identity = images(tmp_path, 1, 100, count=COUNT)
    ledger = ledger_of(tmp_path)
    with uplink(tmp_path, ledger) as hub:
        work = Sweeper(truck(tmp_path, quota=0))
        real = work._work._write

        def write_slowly(*args: object) -> object:
            hub.desk.taken.clear()
            ledger.uploaded(identity, "https://hub.test/x")
            return real(*args)  # type: ignore[arg-type]

        work._work._write = write_slowly  # type: ignore[method-assign,assignment]
        problem = work.sweep()
    assert problem is not None and "gave away" in problem
    assert present(tmp_path) == [f"{FOLDER}/000001-images"] and not list(tmp_path.glob(".deriving/*/*.mcap"))
    ledger.close()


def _paths(spool: Path) -> dict[str, str]:
    return {f"truck-1-{name.replace('/', '-')}": f"{name}.mcap" for name in present(spool)}
