"""What of the upload folder may go, decided from the disk, the announcements and the receipts (why: hub/reaper.py)."""

import logging
from collections import Counter
from typing import NamedTuple
from xml.etree.ElementTree import Element

from hub.reaper_books import Books
from hub.reaper_folder import Folder, Object, Seen, object_of, owner_of
from sox.documents import DocumentError, parse_data, parse_xep0082
from sox.segments import REFUSED, STORED, BadAnnouncement, BadReceipt, read_announcement, read_receipt

BAR_SECONDS = 60.0  # later than this after its receipt is counted as late
RECEIPTED, EXPIRED = "receipted", "expired"
REASONS = (RECEIPTED, REFUSED, EXPIRED)

log = logging.getLogger("hub.reaper")


class Left(NamedTuple):
    """What one look at the disk left there. `mismatched`: not as long as what was announced and stored."""

    objects: int = 0
    size: int = 0
    mismatched: int = 0
    disk_age_s: float = 0.0  # of the oldest


class Reaping:
    """All trucks' books and the counters of this process; methods block for the disk, a disk that refuses is counted and tried again."""

    def __init__(self, folder: Folder, keep_s: float, refused_s: float) -> None:
        self._folder, self._keep_s, self._refused_s = folder, keep_s, refused_s
        self._books: dict[str, Books] = {}  # by owner
        self.unanswered: dict[str, int] = {}  # owner -> objects on the disk that have no answer
        self.left = Left()
        self.counts: Counter[str] = Counter()
        self.latency_max_s = 0.0

    def removed(self) -> dict[str, dict[str, int]]:
        """Objects and bytes removed, by reason."""
        return {why: {"objects": self.counts[why], "bytes": self.counts[f"{why} bytes"]} for why in REASONS}

    def begin(self, owners: list[str]) -> None:
        """A look at the disk begins, of `owners`."""
        self.unanswered = {owner: self.unanswered.get(owner, 0) for owner in owners}
        self._looked = Left()

    def looked(self, owner: str, seen: list[Seen]) -> None:
        """What lies in the folder of `owner`: removes what is due, and counts the rest."""
        books, unanswered, total = self._books.get(owner), 0, self._looked
        for found in seen:
            answer = books.answer(found.object) if books is not None else None
            why = None
            if answer is not None and answer.state == STORED and answer.size == found.size:
                why = RECEIPTED  # its removal did not succeed when the receipt came
            elif answer is not None and answer.state == REFUSED and found.age_s > self._refused_s:
                why = REFUSED
            elif found.age_s > self._keep_s:
                why = EXPIRED
            if why is not None and self._remove(found.object, why, found.size):
                continue
            unanswered += answer is None
            mismatched = answer is not None and answer.state == STORED and answer.size != found.size
            total = Left(
                total.objects + 1, total.size + found.size, total.mismatched + mismatched, max(total.disk_age_s, found.age_s)
            )  # fmt: skip
        self._looked = total
        self.unanswered[owner] = unanswered

    def end(self) -> None:
        """The look is complete."""
        self.left = self._looked
        self.counts["looks"] += 1

    def item(self, domain: str, node: str, item_id: str, element: Element) -> None:
        """An item of the announcements or receipts node of a truck of `domain`."""
        truck, _, channel = node.removesuffix("_data").rpartition("_")
        owner = owner_of(f"{truck}@{domain}")
        if channel == "segments":
            stored = self._announced(owner, truck, item_id, element)
        elif channel == "receipts":
            stored = self._receipted(owner, truck, item_id, element)
        else:
            return
        for found in stored:
            answer = self._books[owner].answer(found)
            if answer is not None and self._remove(found, RECEIPTED, answer.size):
                self._took(answer.utc_ns)

    def disk_refused(self, error: OSError) -> None:
        """The disk refused; the next look tries again."""
        self.counts["disk errors"] += 1
        log.warning("the upload folder: %s", error.strerror)  # without the address: it is a capability

    def _announced(self, owner: str, truck: str, item_id: str, element: Element) -> list[Object]:
        try:
            announcement = read_announcement(item_id, element)
        except BadAnnouncement:
            return []  # the center tells the truck
        found = object_of(announcement.url, owner)
        if found is None or announcement.truck != truck:
            self.counts["foreign"] += 1
            return []
        return self._books.setdefault(owner, Books()).announced(found, announcement)

    def _receipted(self, owner: str, truck: str, item_id: str, element: Element) -> list[Object]:
        try:
            receipt = read_receipt(item_id, element)
            times = [value.timestamp for value in parse_data(element) if value.timestamp]
            utc_ns = parse_xep0082(times[0]) if times else 0
        except (BadReceipt, DocumentError, ValueError) as error:
            log.warning("%s: not a receipt: %s", truck, error)
            return []
        return self._books.setdefault(owner, Books()).receipted(receipt, utc_ns)

    def _remove(self, found: Object, why: str, size: int) -> bool:
        try:
            freed = self._folder.remove(found, size)
        except OSError as error:
            self.disk_refused(error)
            return False
        if freed is None:
            return False
        self.counts[why] += 1
        self.counts[f"{why} bytes"] += freed
        if found.owner in self._books:
            self._books[found.owner].forget(found)
        return True

    def _took(self, utc_ns: int) -> None:
        """An object went whose receipt was written at `utc_ns`: how long it took, by the clocks of center and disk."""
        if not utc_ns:
            return
        try:
            seconds = max(0.0, self._folder.now() - utc_ns / 1e9)
        except OSError as error:
            self.disk_refused(error)
            return
        self.latency_max_s = max(self.latency_max_s, seconds)
        self.counts["late"] += seconds > BAR_SECONDS
