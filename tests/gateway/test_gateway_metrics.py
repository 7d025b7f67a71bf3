"""Prometheus metrics: names by its conventions (promtool's rules), values from the status, on loopback alone."""

import asyncio
import re
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from gateway_status_parts import says
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Metrics, StatusCollector
from gateway.uplink_status import write_json

# What promtool (check metrics) refuses: https://prometheus.io/docs/practices/naming, github.com/prometheus/client_golang promlint.
NOT_BASE = re.compile(r"_(milli|micro|nano|kilo|mega|giga|ms|minutes?|hours?|days?|kb|mb|gb|bits|percent|celsius)(_|$)", re.IGNORECASE)


@pytest.fixture
def families(tmp_path: Path) -> list[Metric]:
    """All of them, of a status that has everything."""
    write_json(tmp_path / "sweeper.json", {"pid": 1, "boottime_ns": 1, "spool_bytes": 9_000, "quota_bytes": 10_000})
    registry = CollectorRegistry()
    registry.register(StatusCollector(tmp_path, says))
    return list(registry.collect())


def value(families: list[Metric], name: str, **labels: str) -> float:
    (found,) = [sample.value for family in families for sample in family.samples if sample.name == name and sample.labels == labels]
    return found


def test_every_name_follows_the_conventions(families: list[Metric]) -> None:
    names = [family.name for family in families]
    assert len(names) == len(set(names)) > 25
    for family in families:
        assert re.fullmatch(r"cruisers(_[a-z0-9]+)+", family.name), family.name
        assert family.documentation.endswith("."), family.name
        assert not NOT_BASE.search(family.name), family.name
        assert family.type in ("counter", "gauge")
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
            assert not set(sample.labels) & {"le", "quantile", "job", "instance"}
            assert not any(label in sample.name.split("_") for label in sample.labels), sample.name


def test_values_are_those_of_the_status(families: list[Metric]) -> None:
    assert value(families, "cruisers_backlog_bytes", **{"class": "images"}) == 77_000_000_000
    assert value(families, "cruisers_lost_messages_total", reason="thinned_images") == 1200
    assert value(families, "cruisers_receipts_total", outcome="delivered") == 3
    assert value(families, "cruisers_link_info", **{"class": "metered", "interface": "wwan0"}) == 1
    assert value(families, "cruisers_sensors", sensor="sps30", state="failed") == 1
    assert (value(families, "cruisers_hub_connected"), value(families, "cruisers_parked")) == (1, 0)
    assert value(families, "cruisers_receipted_bytes_per_second") == 612_000
    assert value(families, "cruisers_spool_bytes") == 9_000
    assert value(families, "cruisers_backlog_oldest_timestamp_seconds") == 1_792_910_000


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "sweeper.json").write_text("half a fi")
    told = {"truck": "truck-1", "pid": 1, "boottime_ns": 1, "connected": False}
    names = {family.name for family in StatusCollector(tmp_path, lambda: told).collect()}
    assert {"cruisers_hub_connected", "cruisers_problems"} <= names
    assert not names & {"cruisers_disk_free_bytes", "cruisers_clock_error_seconds", "cruisers_spool_bytes", "cruisers_link_info"}
    assert list(StatusCollector(tmp_path, lambda: None).collect()) == []


def listening(port: int) -> list[str]:
    """The addresses at which somebody listens on `port`, as the kernel writes them."""
    sockets = [line.split() for file in ("tcp", "tcp6") for line in Path("/proc/self/net", file).read_text().splitlines()]
    return [fields[1] for fields in sockets if fields[1].endswith(f":{port:04X}") and fields[3] == "0A"]


async def test_they_are_served_on_loopback_alone_until_the_uplink_ends(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    page = f"http://127.0.0.1:{port}/metrics"
    serving = asyncio.ensure_future(Metrics(port, tmp_path, says).run())
    await asyncio.sleep(0)
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(page).read().decode())
    assert any(family.name == "cruisers_backlog_bytes" for family in text_string_to_metric_families(text))
    assert await asyncio.to_thread(listening, port) == [f"0100007F:{port:04X}"]  # 127.0.0.1 and nowhere else
    with pytest.raises(OSError):  # a port that is taken is told, and tried again by the uplink
        await Metrics(port, tmp_path, says).run()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    with pytest.raises(urllib.error.URLError):
        await asyncio.to_thread(urllib.request.urlopen, page)


def test_a_status_that_is_no_number_is_no_metric(tmp_path: Path) -> None:
    told: dict[str, Any] = {**says(), "uploads": "many", "connected": None}
    names = {family.name for family in StatusCollector(tmp_path, lambda: told).collect()}
    assert not names & {"cruisers_uploads", "cruisers_hub_connected"}
