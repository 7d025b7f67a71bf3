"""`make bench [PART=recording]`: what the product costs, as ratios to the bare machine or a peer measured in the same run. Absolute times
on shared machines mean nothing: they stand here only where a bar is one, and decide no test. The figures also go to bench/results, as
JSON with the machine's CPU model and core count.

Exit codes: 0, also where a bar is missed (the table says so: a loaded machine must not fail a build), 2 for a part that does not exist."""

import sys
from collections.abc import Callable, Iterable

from rich.console import Console
from rich.table import Table

from bench import camera, compression, decoding, fleet, image_policies, ingest, narrow_way, recording, uplink, watching
from bench.measure import Row, number, save

WIDTH = 100

# Part → what its figures mean, and where they come from.
PARTS: dict[str, tuple[str, Callable[[], Iterable[Row]]]] = {
    "narrow-way": ("speed (or size saved) over the peer's: above 1 is better than the peer", narrow_way.rows),
    "recording": ("ours over the peer's: below 1 is better than the peer", recording.rows),
    "camera": ("a frame of 1080p on its way through; over the peer's: below 1 is better", camera.rows),
    "image-policies": ("what each policy keeps: bytes/km over those of `all`, and the share of frames about events", image_policies.rows),
    "compression": ("how many times smaller than raw int16 rows, all file bytes counted", compression.rows),
    "watching": ("events: speed over real time, CPU over the peer's", watching.rows),
    "uplink": ("verified bytes over the shaped link's capacity, and the waits of live values meanwhile", uplink.rows),
    "ingest": ("speed of the center's ingest over that of a SHA-256 of the same bytes: above 0.5 is the bar", ingest.rows),
    "fleet": ("a hundred trucks on one hub and one center", fleet.rows),
    "decoding": ("CPU of decode(trim, raw) of one sample over that of struct.unpack of the same bytes", decoding.rows),
}


def show(name: str, console: Console) -> None:
    """Measures one part, with a line for what is being measured, prints its table and keeps its figures."""
    meaning, measure = PARTS[name]
    found: list[Row] = []
    with console.status(f"{name} ...") as status:
        for row in measure():
            found.append(row)
            status.update(f"{name}: {row.what}: {number(row.median)} ...")
    table = Table(title=f"{name}: {meaning}", title_justify="left", box=None, pad_edge=False)
    for heading in ("what", "against", "median", "runs", "bar"):
        table.add_column(heading, justify="left" if heading in ("what", "against") else "right")
    for row in found:
        table.add_row(row.what, row.against, number(row.median), row.spread, f"{row.bar} {row.verdict}".strip())
    console.print(table)
    console.print(f"figures: bench/results/{save(name, found).name}\n")


def main(arguments: list[str]) -> int:
    """All parts, or the one that is named."""
    unknown = [name for name in arguments if name not in PARTS]
    if unknown:
        print(f"bench: no part {unknown[0]!r}: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    console = Console(width=WIDTH if not sys.stdout.isatty() else None, highlight=False)
    for name in arguments or PARTS:
        show(name, console)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
