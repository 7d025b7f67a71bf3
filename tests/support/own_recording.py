"""The own wires of a truck recorded by a process of its own: `python own_recording.py CONFIG` until SIGTERM, for tests under `sim run`.

The recorder's parts that this needs, and no more: segments, journal, supervision, the newest samples of a recorder before."""

import signal
import sys
import threading
from pathlib import Path

from gateway_recording import Bench

from gateway.config import load
from gateway.disk_trouble import DiskTrouble
from gateway.own_parts import OwnParts
from gateway.supervision import Supervisor


def main(config_path: str) -> int:
    config = load(config_path)
    assert config.bus is not None
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    bench = Bench(Path(config.spool).parent)
    own = OwnParts(config.bus, bench.clock, bench.journal, bench.snapshot, DiskTrouble(), {})
    failures: list[Exception] = []
    supervisor = Supervisor(bench.journal, failures.append)
    for wire in own.wires:
        supervisor.start(wire.name, wire.run, stop)
    stop.wait()
    assert supervisor.join(10) == []
    bench.close()
    return len(failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
