"""The workers that the center starts for itself: so many processes of center/ingest.py, begun anew where one ends, stopped with it."""

import asyncio
import logging
import sys
from pathlib import Path

AGAIN_FIRST_S, AGAIN_MOST_S = 1.0, 60.0  # until a worker that ended is begun anew
STEADY_S = 60.0  # one that lived so long has not failed at its start
STOP_S = 10.0  # for a worker to put down what it has in hand

log = logging.getLogger("center.ingest")


async def crew(config: Path, count: int) -> None:
    """Keep `count` workers of the configuration file running, until cancelled; then they are stopped."""
    async with asyncio.TaskGroup() as group:
        for number in range(1, count + 1):
            group.create_task(_keep(config, f"ingest-{number}"))


async def _keep(config: Path, name: str) -> None:
    loop, delay = asyncio.get_running_loop(), AGAIN_FIRST_S
    while True:
        began = loop.time()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "center.ingest", str(config), "--worker", name, "--with-center", stdin=asyncio.subprocess.DEVNULL
        )
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await _stopped(process)
            raise
        delay = AGAIN_FIRST_S if loop.time() - began > STEADY_S else min(AGAIN_MOST_S, 2 * delay)
        log.warning("worker %s ended with %d; the next one in %g s", name, code, delay)
        await asyncio.sleep(delay)


async def _stopped(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()
