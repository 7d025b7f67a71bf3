"""How a segment came to stand in the place of others: the key `derivation` of its Metadata `segment`, as JSON (docs/formats.md 2).

The ledger is told nothing else about it: all that it knows of a derived segment can be read again from the file."""

from pathlib import Path
from typing import Literal

import msgspec
from mcap.opcode import Opcode
from mcap.records import Metadata

from logbook.closing import parse, record_at
from logbook.records import MAGIC
from logbook.scan import scan
from logbook.segment_writer import SEGMENT, Identity

Shrinking = Literal["no", "huffman", "jpeg-xl"]

# Header and Metadata `segment` take some 300 bytes, and an original has no more than those; a head with all schemas takes 6 kB, and the
# ids of a record's originals up to 64 bytes each.
_BEGINNING_BYTES = 1_000
_HEAD_BYTES = 2_000_000


class Derivation(msgspec.Struct, frozen=True):
    """`kind`: what was done. `keep_every`: of the images outside of events one in so many is left; 0: none, the file is a record of what
    was dropped. `shrink`: how images are packed. `dropped`: messages that its originals had and it has not."""

    kind: Literal["thinning", "drop", "shrink"]
    keep_every: int
    shrink: Shrinking = "no"
    dropped: int = 0

    def text(self) -> str:
        """As it stands in the file."""
        return msgspec.json.encode(self).decode()


ORIGINAL = Derivation("thinning", 1)  # what a recorder's segment would say: every image, as taken


def derivation_of(identity: Identity) -> Derivation:
    """What the segment says; ORIGINAL for one of the recorder. Raises ValueError for what no sweeper wrote."""
    return msgspec.json.decode(identity.derivation, type=Derivation) if identity.derived_from else ORIGINAL


def derived_identity(path: Path) -> Identity | None:
    """Who wrote the file, if it stands in the place of others and its head is whole (CRC); None for an original. Raises OSError.

    A damaged head is believed nothing: the wrong original would be given up for it."""
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING_BYTES)
        if not _names_originals(beginning):
            return None
        head = scan(beginning + file.read(_HEAD_BYTES - len(beginning))).head
    return head.identity if head is not None and head.identity.derived_from else None


def _names_originals(beginning: bytes) -> bool:
    """Whether the first records of a file may hold `derived_from`; cheap, for a ledger begun anew asks for each file of the spool."""
    position = len(MAGIC)
    while (bounds := record_at(beginning, position)) is not None:
        opcode, start, position = bounds
        if opcode == Opcode.METADATA and (metadata := parse(Metadata, beginning[start:position])) and metadata.name == SEGMENT:
            return "derived_from" in metadata.metadata
    return True  # not whole within these bytes: many ids
