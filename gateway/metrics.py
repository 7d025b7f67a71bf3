"""Prometheus metrics of the uplink on loopback (`uplink.metrics_port`), made at each scrape from the status that uplink.json shows, and
from sweeper.json: one truth. Names as Prometheus asks for them: base units (bytes, seconds), `_total` for what only rises.

Only 127.0.0.1: whoever wants them elsewhere scrapes through the operator's own way in. A port that is taken is a trouble in the status,
tried again, and stops nothing else."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.clock import NANO, boottime_ns
from gateway.status import SWEEPER, UPLINK, BadStatus, Process, Report, process, report

HOST = "127.0.0.1"

# Counters of this process (those of `lost` and `delivered` are for ever): name, path in the status, help.
COUNTERS = (
    ("live_published", ("live_published",), "Snapshots that the hub took."),
    ("live_failed", ("live_failed",), "Snapshots whose publication failed."),
    ("live_conflated", ("live_conflated",), "Snapshots replaced by newer ones before they were sent."),
    ("packed_published", ("packed", "published"), "Packed blocks that the hub took."),
    ("packed_passed_over", ("packed", "passed_over"), "Packed blocks left out because the link was too slow."),
    ("events_published", ("events", "published"), "Events that the hub took."),
    ("events_passed_over", ("events", "passed_over"), "Events for ever that were not told live, for too many waited."),
    ("uploads", ("uploads",), "Segments uploaded."),
    ("uploads_refused", ("uploads_refused",), "Uploads refused by the hub."),
    ("uploads_broken", ("uploads_broken",), "Uploads cut by the way."),
    ("announcements", ("announcements",), "Announcements that the hub took."),
    ("hub_connects", ("connects",), "Connections made to the hub."),
    ("delivered_bytes", ("delivered_bytes",), "Bytes of segments that the center has receipted, for ever."),
)
GAUGES = (
    ("hub_connected", ("connected",), "1 while there is a connection to the hub."),
    ("parked", ("recorder", "parked"), "1 while the ignition is off and nothing is recorded."),
    ("events_waiting", ("events", "waiting"), "Events that wait for the hub."),
    ("disk_free_bytes", ("disk_free_bytes",), "Free on the spool's disk."),
    ("clock_error_seconds", ("recorder", "utc_error_s"), "Bound on the error of the truck's UTC; absent without UTC."),
    ("receipted_bytes_per_second", ("receipted_bytes_per_s",), "Rate of receipts over the last 10 minutes in which something waited."),
)
SWEEPER_GAUGES = (
    ("spool_bytes", "spool_bytes", "Bytes of all segments on the disk."),
    ("spool_quota_bytes", "quota_bytes", "What they may be."),
)


class StatusCollector(Collector):
    """Metrics of the newest status, `latest()` (None: there is none yet), and of sweeper.json in `spool`."""

    def __init__(self, spool: Path, latest: Callable[[], dict[str, Any] | None]) -> None:
        self._spool = spool
        self._latest = latest

    def collect(self) -> Iterator[Metric]:
        """All metrics; what is not known is left out."""
        says = self._latest()
        if says is None:
            return
        now = boottime_ns()
        try:
            sweeper = process(self._spool, SWEEPER)
        except BadStatus:  # half a file of a foreign hand: as if there were none, and `problems` counts it
            sweeper = Process(SWEEPER, None, None, False)
        found = report(Process(UPLINK, says, (now - says["boottime_ns"]) / NANO, True), sweeper, now)
        yield from _simple(says, sweeper.says or {})
        yield from _by_class(found)
        yield from _by_reason(found, says)
        yield from _states(found, says)


def _simple(says: dict[str, Any], sweeper: dict[str, Any]) -> Iterator[Metric]:
    for name, path, text in COUNTERS:
        if (value := _at(says, path)) is not None:
            yield CounterMetricFamily(f"cruisers_{name}", text, value)
    for name, path, text in GAUGES:
        if (value := _at(says, path)) is not None:
            yield GaugeMetricFamily(f"cruisers_{name}", text, value)
    for name, key, text in SWEEPER_GAUGES:
        if (value := _at(sweeper, (key,))) is not None:
            yield GaugeMetricFamily(f"cruisers_{name}", text, value)


def _by_class(found: Report) -> Iterator[Metric]:
    segments = GaugeMetricFamily("cruisers_backlog_segments", "Segments not delivered, those set aside included.", labels=["class"])
    size = GaugeMetricFamily("cruisers_backlog_bytes", "Bytes of segments not delivered.", labels=["class"])
    for name, one in found.backlog.items():
        segments.add_metric([name], one["segments"])
        size.add_metric([name], one["bytes"])
    yield from (segments, size)
    if found.oldest and found.oldest["utc_ns"]:
        text = "When the oldest segment that is not delivered began, in seconds since 1970."
        yield GaugeMetricFamily("cruisers_backlog_oldest_timestamp_seconds", text, found.oldest["utc_ns"] / NANO)


def _by_reason(found: Report, says: dict[str, Any]) -> Iterator[Metric]:
    lost = CounterMetricFamily("cruisers_lost_messages", "Messages recorded and never delivered, for ever, by reason.", labels=["reason"])
    for name, count in found.losses.items():
        if name != "gaps":
            lost.add_metric([name], count)
    yield lost
    yield CounterMetricFamily("cruisers_recorder_gaps", "Gaps told by the recorder that runs.", found.losses["gaps"])
    receipts = CounterMetricFamily("cruisers_receipts", "Receipts by what they changed.", labels=["outcome"])
    for outcome, count in (says.get("receipts") or {}).items():
        receipts.add_metric([outcome], count)
    yield receipts
    if found.last_receipt_age_s is not None:
        yield GaugeMetricFamily("cruisers_last_receipt_age_seconds", "Since the last receipt came.", found.last_receipt_age_s)


def _states(found: Report, says: dict[str, Any]) -> Iterator[Metric]:
    if found.link:
        link = GaugeMetricFamily("cruisers_link_info", "The link in use.", labels=["class", "interface"])
        link.add_metric([str(found.link.get("class") or ""), str(found.link.get("interface") or "")], 1)
        yield link
    sensors = GaugeMetricFamily("cruisers_sensors", "1 for the state that each sensor is in.", labels=["sensor", "state"])
    for name, state in ((says.get("recorder") or {}).get("sensors") or {}).items():
        sensors.add_metric([name, state.get("state", "")], 1)
    yield sensors
    yield GaugeMetricFamily("cruisers_problems", "Things that are wrong now, as `cruisers status` lists them.", len(found.wrong))


def _at(says: dict[str, Any], path: tuple[str, ...]) -> float | None:
    value: Any = says
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) else None


class Metrics:
    """Serves them on HOST:`port`; port 0 of the configuration means none, so nobody makes one then."""

    def __init__(self, port: int, spool: Path, latest: Callable[[], dict[str, Any] | None]) -> None:
        self._port = port
        self._registry = CollectorRegistry()
        self._registry.register(StatusCollector(spool, latest))

    async def run(self) -> None:
        """Serve until cancelled; raises OSError where the port is taken."""
        server, thread = start_http_server(self._port, HOST, self._registry)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(server.shutdown)
            server.server_close()
            thread.join()
