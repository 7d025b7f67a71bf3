"""What the truck says to a request, from what was found for it. No disk and no network in here."""

from gateway.uplink_requests_match import Match
from sox.requests import BOOKMARK, DONE, FOUND, REFUSED, SENDING, Answer, Request, wants_images

MARKED = "marked"
STALE_SECONDS = 30 * 86_400.0  # what was asked longer ago nobody waits for; and an open request must end
BOOKMARK_SECONDS = 60.0  # a mark means this moment: later it would mark another one


def stale(request: Request, utc_ns: int) -> str:
    """Why a request that has just arrived comes too late at UTC `utc_ns` (0: unknown); "" if it does not."""
    late = (utc_ns - request.asked_utc_ns) / 1e9 if utc_ns else 0.0
    if late > STALE_SECONDS:
        return f"asked {late / 86_400:.0f} days ago: too late"
    if request.kind == BOOKMARK and not wants_images(request):
        if not utc_ns:
            return "the truck has no clock yet: it cannot tell whether the moment is over"
        if late > BOOKMARK_SECONDS:
            return f"asked {late:.0f} s ago: the moment is over"
    return ""


def answer_to_mark(request: Request, marked: str) -> Answer:
    """The answer to a bookmark that asks for no images."""
    return Answer(request.request_id, DONE if marked == MARKED else REFUSED, marked)


def answer_to(request: Request, found: Match, over: bool, late: bool, marked: str = "", too_much: str = "") -> Answer:
    """The answer to a request for images. `over`: no further images of it can appear; `late`: it is given up; `marked`: what became of a
    bookmark's mark; `too_much`: why what was found is not sent."""
    held = [*found.waiting, *found.sent]
    state = _state(found, over)
    said = [marked] if marked else []
    if late and state != DONE:
        state = REFUSED
        said.append("given up after 30 days")
    elif too_much:
        state = REFUSED if not found.sent and len(found.new) == len(found.waiting) else state  # what is begun goes on
        said.append(too_much)
    if found.waiting and (found.sent or late):
        said.append(f"{len(found.sent)} of {len(held)} sent")
    if found.unseen:
        said.append("segments are still being looked into")
    elif not over:
        said.append("the time is not over, or its last images are not sealed yet")
    elif not held and not found.gone:
        said.append(_nothing(request, found))
    if found.unclear:
        said.append(f"of {found.unclear} segments with images no time is known")
    return Answer(
        request.request_id, state, "; ".join(said), len(held), sum(one.images for one in held), sum(one.bytes for one in held),
        len(found.sent), sum(one.bytes for one in found.sent), len(found.gone),
        tuple(found.waiting), tuple(found.sent), tuple(found.gone),
    )  # fmt: skip


def _state(found: Match, over: bool) -> str:
    if over and not found.waiting:
        return DONE
    return SENDING if found.sent else FOUND


def _nothing(request: Request, found: Match) -> str:
    """Why there are no images, as far as the truck knows."""
    if request.place is not None and not found.there:
        return "never recorded: the truck was not there in that time, as far as it knows its way"
    if found.recorded:
        return "never recorded: readings are there, but no images (no camera, or it was away)"
    return "never recorded: nothing is known of that time (parked, switched off, or before the truck's memory)"
