"""The short form of `make faults-uplink` (docs/uplink-faults.md): some of its rows and a whole shift, on one hub and center."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from uplink_faults import one
from uplink_faults_cases import CASES
from uplink_faults_rig import City
from uplink_shift import SHORT_FORM, shift

pytestmark = pytest.mark.timeout(240)

TOGETHER = ("resets at random bytes", "all of it at random", "center killed, 4 times")
BY_NAME = {case.name: case for case in CASES}


def test_nothing_is_lost_doubled_or_deleted_too_early_whatever_link_server_and_kills_do_and_over_a_whole_shift(city: City) -> None:
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(one, city, BY_NAME[name], f"t{at:02d}", at, short=True) for at, name in enumerate(TOGETHER)]
        driven = pool.submit(shift, city, "t11", 1, SHORT_FORM)
    for row in (run.result() for run in runs):
        assert not row.failed, row
        assert (row.lost, row.duplicated, row.unreceipted, row.false) == (0, 0, 0, 0) and row.segments >= 5, row
    result = driven.result()
    assert result.problems == [] and result.books is not None and (result.books.off, result.books.backlog) == (0, 0), result
    assert result.thinned and result.books.deleted, "the disk was to be too small, and the sweeper to work"
    stages = {stage.what: stage for stage in result.stages}
    assert stages["LTE"].readings > 0 and [stage.what for stage in result.stages if stage.images] == ["depot"], result
