import shutil
from pathlib import Path

import pytest

from sim import fleet
from sim.fleet import FleetError, Options, sizes


@pytest.mark.skipif(shutil.which("erl") is None, reason="ejabberd is not installed")
def test_every_block_of_a_small_fleet_arrives_and_it_grows_to_the_size_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "WARM_UP_SECONDS", 1.0)
    monkeypatch.setattr(fleet, "SETTLE_SECONDS", 1.5)
    found = sizes(Options(trucks=2, seconds=2, most=3, late_s=30.0, home=tmp_path))
    assert [size.trucks for size in found] == [2, 3]
    for size in found:
        assert size.missing == 0
        assert size.blocks >= 2 * size.trucks
        assert size.snapshots > 0
        assert 0 <= size.p50_s <= size.p99_s
        assert size.cpu["hub"] > 0


@pytest.mark.parametrize("options", [Options(trucks=0), Options(trucks=10, most=5)])
def test_a_fleet_that_cannot_be_is_refused(options: Options) -> None:
    with pytest.raises(FleetError, match="trucks"):
        sizes(options)
