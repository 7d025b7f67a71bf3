"""A hundred trucks on one hub and one center: whether every block arrives, how late values are, what part of the hub's capacity they take,
and how many trucks it takes until values are late.

- the fleet: `cruisers sim fleet` (sim/fleet.py), the real uplinks, hub and center.
- the hub alone: two processes publish a truck's values as fast as the hub answers (bench/hub_load.py), this one reads them all as the
  center does. All share the machine's cores, as in the fleet."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.hub_load import client_of
from bench.measure import Row
from sim.fleet import Options, sizes
from sox import nodes
from sox.client import SoxClient

TRUCKS, SECONDS = 100, 40.0
MOST, STEP_SECONDS, LATE_S = 1000, 15.0, 1.0
ITEMS_A_TRUCK = 2  # a second: values and a packed block
LOAD_SECONDS = 10.0
# Accounts of the two processes: so many that the rate a hub allows one of them (hub/limits.py) is not what is measured.
LOADS = tuple([f"truck-{process}-{number}" for number in range(20)] for process in (1, 2))
READY_SECONDS = 90.0


def hub_alone() -> float:
    """Items a second that the hub takes and hands to one reader."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        ready = Path(name) / "hub.json"
        trucks = [truck for load in LOADS for truck in load]
        argv = ["-m", "hub", "serve", "--home", f"{name}/hub", "--ready", str(ready), "--trucks", ",".join(trucks)]
        with subprocess.Popen([sys.executable, *argv]) as hub:
            try:
                until = time.monotonic() + READY_SECONDS
                while not ready.exists():
                    if hub.poll() is not None or time.monotonic() > until:
                        raise RuntimeError("the hub did not start")
                    time.sleep(0.1)
                return asyncio.run(_flood(ready, client_of(json.loads(ready.read_text()), "center"), trucks))
            finally:
                hub.terminate()


async def _flood(ready: Path, reader: SoxClient, trucks: list[str]) -> float:
    read = 0

    def count(node: str, item_id: str, element: object) -> None:
        nonlocal read
        read += 1

    reader.on_item(count)
    await reader.connect()
    for truck in trucks:
        await reader.subscribe(nodes.data(truck))
    loads = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.hub_load", str(ready), ",".join(load), str(LOAD_SECONDS), stdout=asyncio.subprocess.PIPE
        )
        for load in LOADS
    ]
    taken = 0
    for load in loads:
        said, _ = await load.communicate()
        taken += int(said)
    await asyncio.sleep(2.0)
    await reader.disconnect()
    if read < taken:
        raise RuntimeError(f"the hub took {taken} items and handed out {read}")
    return taken / LOAD_SECONDS


def rows() -> Iterator[Row]:
    """Figures of a hundred trucks, and the number of trucks at which values are late."""
    alone = hub_alone()
    fleet = sizes(Options(TRUCKS, SECONDS))[0]
    yield Row(f"{TRUCKS} trucks: packed blocks that did not arrive", f"{fleet.blocks_sent:,} sent", [fleet.missing], "<= 0")
    yield Row(f"{TRUCKS} trucks: values, collection to center, p50, ms", "-", [fleet.p50_s * 1e3])
    yield Row(f"{TRUCKS} trucks: values, collection to center, p99, ms", "-", [fleet.p99_s * 1e3], "<= 500")
    yield Row(f"{TRUCKS} trucks: items a second", f"the hub alone ({alone:,.0f})", [ITEMS_A_TRUCK * TRUCKS / alone])
    yield Row(f"{TRUCKS} trucks: CPU of hub, center and uplinks, cores", "-", [sum(fleet.cpu[k] for k in ("hub", "center", "uplinks"))])
    grown = sizes(Options(TRUCKS, STEP_SECONDS, MOST, LATE_S))
    late = next((size.trucks for size in grown if size.p99_s > LATE_S), None)
    steps = ", ".join(f"{size.trucks}: {size.p99_s * 1e3:.0f}" for size in grown)
    yield Row(f"trucks at which p99 passes {LATE_S:g} s" + ("" if late else " (not reached)"), f"p99 in ms: {steps}", [late or MOST])
