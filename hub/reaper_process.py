"""The reaper beside a hub: a process of its own, so that neither can hold up the other, started again when it ends."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

AGAIN_SECONDS = 5.0  # between two starts of one that ends by itself
STOP_SECONDS = 10.0


@asynccontextmanager
async def reaper_beside(home: Path, ready: Path, docroot: Path | None = None) -> AsyncIterator[None]:
    """`python -m hub.reaper` for the hub in `home` while the block lasts; it ends with us, however we end (PDEATHSIG)."""
    keeping = asyncio.ensure_future(_keep(home, ready, docroot))
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def _keep(home: Path, ready: Path, docroot: Path | None) -> NoReturn:
    place = ["--docroot", str(docroot)] if docroot is not None else []
    while True:
        process = await asyncio.create_subprocess_exec(
            "setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "hub.reaper", "--home", str(home), "--ready", str(ready), *place,
            stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await _end(process)
            raise
        print(f"hub: the reaper ended by itself (exit code {code}); it is started again", file=sys.stderr)
        await asyncio.sleep(AGAIN_SECONDS)


async def _end(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
