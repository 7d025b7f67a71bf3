"""A city for the whole room: a real hub, a real center, and the hostile web server to which objects go here."""

import shutil
from collections.abc import Iterator

import pytest
from uplink_faults_rig import City

TRUCKS = [f"t{number:02d}" for number in range(12)]


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    if shutil.which("erl") is None:
        pytest.skip("ejabberd is not installed")
    with City(tmp_path_factory.mktemp("city"), TRUCKS, by_web=True) as started:
        yield started
