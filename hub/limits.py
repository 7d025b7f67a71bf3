"""What one account may do to the hub, in numbers, each with its reason; hub/configuration.py writes them down for ejabberd.

A truck sends about 10 kB/s over XMPP (live at 1 Hz, one packed block a second, now and then an announcement); its 2.5 GB a day (252 GB
for 100 trucks) go over HTTPS, which is not shaped here: the truck paces itself, and the line into the hub is the limit.
ejabberd can neither limit connections per address nor the rate of HTTP: a city on the open internet puts a packet filter in front.
"""

from typing import NamedTuple

from sox.nodes import QUEUE_ITEMS

MAX_OBJECT = 268_435_456  # bytes of one uploaded object: 16 times an images segment
MAX_STANZA = 524_288  # bytes: twice a full pubsub payload (250,000) with its envelope
PING_SECONDS = 60  # a session that does not answer is ended, so that its account counts as away
# From TCP accepted to logged in. The truck gives up after 15 s (sox.stream), so nobody honest is cut, and a slow loris holds a
# connection no longer than this.
NEGOTIATION_SECONDS = 16


class Rate(NamedTuple):
    """Bytes a second that are read from one connection, and how many may come at once before that holds."""

    rate: int
    burst: int


# 13 times the usual load: 100 Hz as one XML item a sample (65 kB/s) still passes. The burst takes one item of the
# largest size. Small stanzas in TLS records of their own pass at a third of the rate: ejabberd waits whole milliseconds after each.
TRUCK_RATE = Rate(131_072, 262_144)
READER_RATE = Rate(16_384, 65_536)  # a reader subscribes and asks; it never writes
# Also what a connection may send before it has logged in: ejabberd knows no account then and takes the last rule, the truck's.

# Sessions of one account at a time; a further one ends the oldest, so a truck that comes back over another address is never kept out
# by what it left behind. Two, because the technician's doctor logs in beside the uplink.
TRUCK_SESSIONS = 2
READER_SESSIONS = 4
CENTER_SESSIONS = 32  # ingest workers side by side
ADMIN_SESSIONS = 8

# Disk that the objects of one truck may take, MiB. Beyond it the truck's own oldest go (the truck still has them: only a receipt lets it
# delete). 20 GiB is eight days of 2.5 GB: a center that is away for RETENTION_DAYS loses nothing from the hub.
QUOTA_MIB = 20_480
RETENTION_DAYS = 8  # the second guard behind the reaper, which deletes after the receipt or 7 days, and counts

# Wrong passwords from one address until it is shut out, and for how long. Passwords have 256 bit, so this keeps noise down and guards
# nothing else; it must not shut out a depot whose trucks share one address with a revoked one. A login that succeeds sets the count to
# zero; sessions that stand are not touched. This machine itself is never shut out.
AUTH_FAILURES = 50
AUTH_BAN_SECONDS = 60

QUEUE_MOST = QUEUE_ITEMS  # items a node may keep
