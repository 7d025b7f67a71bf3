"""How `make bench` measures: repeated runs of ours and of a peer in turn, kept as ratios; and where the results go."""

import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"


class Cost(NamedTuple):
    """Wall and CPU time in seconds."""

    wall: float
    cpu: float


class Row(NamedTuple):
    """One line of a table: `values` are the runs' ratios (or other figures, as `what` says); `bar` is what they are to hold."""

    what: str
    against: str
    values: list[float]
    bar: str = ""

    @property
    def median(self) -> float:
        """The figure that counts."""
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        """Whether the median holds the bar, in a word; "" without one."""
        if not self.bar:
            return ""
        relation, limit = self.bar.split()
        held = self.median <= float(limit) if relation == "<=" else self.median >= float(limit)
        return "held" if held else "MISSED"

    @property
    def spread(self) -> str:
        """From the least to the greatest run."""
        return f"{number(min(self.values))} .. {number(max(self.values))}" if len(self.values) > 1 else "one"


def number(value: float) -> str:
    """A figure as people read it: no more digits than a run would give again."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def own(work: Callable[[], object]) -> Cost:
    """What `work` costs in this process, all its threads together."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def child(work: Callable[[], object]) -> Cost:
    """What `work` costs in the processes that it starts and waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = time.perf_counter()
    work()
    wall = time.perf_counter() - wall
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def machine() -> dict[str, Any]:
    """CPU model and core count: what a figure may be compared within."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return {"cpu": models[0] if models else platform.machine(), "cores": os.cpu_count()}


def save(name: str, rows: list[Row]) -> Path:
    """The figures as JSON in bench/results; the file of the run before is replaced."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    figures = [
        {"what": r.what, "against": r.against, "median": round(r.median, 4), "runs": [round(v, 4) for v in r.values], "bar": r.bar}
        for r in rows
    ]
    path.write_text(json.dumps({"machine": machine(), "figures": figures}, indent=1, ensure_ascii=False) + "\n")
    return path
