"""The bars of issue 4 on the compression of readings. They count bytes of whole files, so they hold on any machine; raw is nine int16 a
sample."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from logbook import block

pytestmark = pytest.mark.timeout(120)

Commits = tuple[Any, ...]  # of bench.compression.Commit


@pytest.fixture(scope="module")
def compression() -> Iterator[ModuleType]:
    """bench/compression.py; `bench` is no installed package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2])
        yield importlib.import_module("bench.compression")


@pytest.fixture(scope="module")
def drive(compression: ModuleType) -> Commits:
    """A minute of commits of the recorded drive."""
    if not compression.DRIVE.is_dir():
        pytest.skip("no recorded drive: ../shared/data/drive-comma2k19 is not there")
    return compression.recorded(compression.DRIVE)


@pytest.fixture(scope="module")
def world(compression: ModuleType) -> Commits:
    """A minute of commits of the simulated truck."""
    return compression.recorded(None)


def test_a_segment_of_the_drive_is_1_4_times_smaller_than_its_rows_with_every_byte_counted(compression: ModuleType, drive: Commits) -> None:
    samples = sum(len(commit.rows) for commit in drive)
    assert 6050 <= samples <= 6200 and compression.raw_bytes(drive) == 18 * samples
    assert all(commit.times[-1] - commit.times[0] < 600_000_000 for commit in drive), "commits of half a second"
    assert compression.raw_bytes(drive) / compression.segment_bytes(drive) >= 1.4


def test_a_minute_of_the_drive_exported_compact_is_1_86_times_smaller_than_its_rows(compression: ModuleType, drive: Commits) -> None:
    assert compression.raw_bytes(drive) / compression.exported_bytes(drive, compact=True) >= 1.86


def test_a_live_block_of_a_second_is_1_4_kb_in_the_mean(compression: ModuleType, drive: Commits) -> None:
    sizes = compression.live_bytes(drive)
    assert 55 <= len(sizes) <= 62
    assert sum(sizes) / len(sizes) <= 1400


def test_half_a_second_takes_less_in_a_column_block_than_in_rows_in_pco_or_in_parquet(compression: ModuleType, world: Commits) -> None:
    ours = compression.block_bytes(world)
    assert ours < 0.7 * compression.pco_bytes(world) < compression.rows_bytes(world) < compression.parquet_bytes(world)


def test_the_simulated_truck_holds_the_bars_too(compression: ModuleType, world: Commits) -> None:
    raw = compression.raw_bytes(world)
    assert raw / compression.segment_bytes(world) >= 1.4
    assert raw / compression.exported_bytes(world, compact=True) >= 1.86
    assert max(compression.live_bytes(world)) <= 1400


def test_nothing_is_lost(drive: Commits) -> None:
    for commit in drive:
        _, times, rows = block.decode(block.encode(7, commit.times, commit.rows))
        assert np.array_equal(times, commit.times) and np.array_equal(rows, commit.rows)
