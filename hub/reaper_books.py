"""What a truck said about its objects, matched with what the center answered.

An answer counts for an object when segment id, size and SHA-256 of its announcement are those of the receipt: a segment announced anew
with other content, after a refusal, makes neither the old object count as stored nor the new one as refused. The newest are kept, within
limits, so a truck that announces without end costs no memory; what falls out is the business of the retention.
"""

from collections import OrderedDict
from typing import NamedTuple

from hub.reaper_folder import Object
from sox.nodes import QUEUE_ITEMS
from sox.segments import STORED, Announcement, Receipt

MOST = 2 * QUEUE_ITEMS  # objects, and receipts, of one truck: twice what its nodes retain


class Content(NamedTuple):
    """What an object is announced to be: size in bytes, SHA-256 in hex."""

    segment_id: str
    size: int
    sha256: str


class Answer(NamedTuple):
    """The center's answer: state stored or refused, for this content, at UTC `utc_ns` (0: not known)."""

    state: str
    size: int
    sha256: str
    utc_ns: int


class Books:
    """The objects of one truck."""

    def __init__(self) -> None:
        self._contents: OrderedDict[Object, Content] = OrderedDict()
        self._objects: dict[str, set[Object]] = {}  # by segment id: more than one after a new upload
        self._answers: OrderedDict[str, Answer] = OrderedDict()

    def announced(self, found: Object, announcement: Announcement) -> list[Object]:
        """An announcement came in; returns the object if the center has it."""
        self.forget(found)
        self._contents[found] = Content(announcement.segment_id, announcement.size, announcement.sha256)
        self._objects.setdefault(announcement.segment_id, set()).add(found)
        while len(self._contents) > MOST:
            self.forget(next(iter(self._contents)))
        return [found] if self.stored(found) else []

    def receipted(self, receipt: Receipt, utc_ns: int) -> list[Object]:
        """A receipt came in; returns the objects that the center has by it."""
        self._answers.pop(receipt.segment_id, None)
        self._answers[receipt.segment_id] = Answer(receipt.state, receipt.size, receipt.sha256, utc_ns)
        if len(self._answers) > MOST:
            self._answers.popitem(last=False)
        return [found for found in self._objects.get(receipt.segment_id, ()) if self.stored(found)]

    def answer(self, found: Object) -> Answer | None:
        """The center's answer to what `found` was announced to be."""
        content = self._contents.get(found)
        answer = self._answers.get(content.segment_id) if content is not None else None
        if content is None or answer is None or (answer.size, answer.sha256) != (content.size, content.sha256):
            return None
        return answer

    def stored(self, found: Object) -> bool:
        """Whether the center has stored what `found` was announced to be."""
        answer = self.answer(found)
        return answer is not None and answer.state == STORED

    def forget(self, found: Object) -> None:
        """`found` is gone."""
        content = self._contents.pop(found, None)
        if content is not None:
            same = self._objects[content.segment_id]
            same.discard(found)
            if not same:
                del self._objects[content.segment_id]
