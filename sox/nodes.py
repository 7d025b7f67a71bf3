"""Names of trucks and of their nodes on the hub (design: SoX). A device `T` has `T_meta` and `T_data`, as in the CMU sensor
specification; each of our extra channels is itself a SoX device with its own `_meta` and `_data`."""

import re

TRUCK_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")  # fits an XMPP localpart, a node name, a folder and a host name

CHANNELS = ("packed", "events", "health", "segments", "answers", "receipts", "request")
CENTER_WRITES = ("receipts", "request")
QUEUES = ("events", "segments", "answers", "receipts", "request")  # one item an event, segment or request
QUEUE_ITEMS = 2000  # kept in a queue; tried on ejabberd 23.01: 1,120 items/s with 1,500 retained (facts: measured.md)


class BadName(ValueError):
    """A truck name that cannot be an XMPP account, a node and a folder at once."""


def check_truck(name: str) -> str:
    """`name` itself; raises BadName with what is allowed."""
    if not TRUCK_NAME.fullmatch(name):
        raise BadName(f"truck name {name!r}: use 1 to 63 of a-z, 0-9 and '-', not '-' at an end")
    return name


def meta(device: str) -> str:
    """The node that describes `device`."""
    return f"{device}_meta"


def data(device: str) -> str:
    """The node with the values of `device`."""
    return f"{device}_data"


def channel(truck: str, name: str) -> str:
    """The device of one of the CHANNELS of `truck`, e.g. truck-1_segments."""
    if name not in CHANNELS:
        raise ValueError(f"no channel {name!r}")
    return f"{truck}_{name}"
