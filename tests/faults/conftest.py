"""The rigs give firmware.bus their own time; afterwards it has the machine's again."""

from collections.abc import Iterator

import pytest

import firmware.bus


@pytest.fixture(autouse=True)
def head_time() -> Iterator[None]:
    before = firmware.bus.time
    yield
    firmware.bus.time = before
