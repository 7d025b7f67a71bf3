"""A status of the uplink that has everything (docs/formats.md 6), written just now by this process."""

import os
from typing import Any

from gateway.clock import NANO, boottime_ns

UTC_NS = 1_793_000_000_000_000_000


def says() -> dict[str, Any]:
    """What uplink.json would hold: a truck on LTE with 77 GB of images, a dead dust sensor and one poison segment."""
    now = boottime_ns()
    return {
        "truck": "truck-014", "pid": os.getpid(), "boottime_ns": now, "connected": True, "connects": 3, "draining": False, "problem": None,
        "live_published": 100, "live_failed": 1, "live_conflated": 2, "live_malformed": 0, "live_waiting": None,
        "classes": {
            "readings": {"segments": 12, "bytes": 15_000_000},
            "requested": {"segments": 2, "bytes": 32_000_000},
            "images": {"segments": 4812, "bytes": 77_000_000_000},
        },
        "oldest": {"segment_id": "x", "class": "images", "boot": "01234567", "boottime_ns": 5, "utc_ns": UTC_NS - 90_000 * NANO},
        "receipted_bytes_per_s": 612_000.0, "delivered_bytes": 10**12, "disk_free_bytes": 34_500_000_000,
        "recorder": {
            "heard_boottime_ns": now, "boot": "01234567-89abcdef", "number": 5, "boottime_ns": now, "utc_ns": UTC_NS, "utc_source": "gnss",
            "utc_error_s": 0.3, "place": None, "parked": False, "gaps": 4,
            "sensors": {"bmp390": {"state": "ok", "reason": ""}, "sps30": {"state": "failed", "reason": "time-out"}},
        },
        "dropped": {"thinned_images": 1200, "thinned_bytes": 10, "dropped_images": 0, "dropped_readings": 0},
        "set_aside": [{"segment_id": "truck-014-01234567-89abcdef-000123-images", "reason": "center: sha256 differs"}],
        "last_receipt": {"segment_id": "s", "outcome": "delivered", "reason": "", "boottime_ns": now - 600 * NANO},
        "link": {"class": "metered", "interface": "wwan0", "why": "rule 2: interface wwan*"},
        "receipts": {"delivered": 3}, "uploads": 5, "uploads_refused": 0, "uploads_broken": 1, "announcements": 5,
        "packed": {"published": 9, "passed_over": 1, "problem": None},
        "events": {"waiting": 1, "published": 2, "passed_over": 0, "problem": None},
    }  # fmt: skip
