"""MJPEG over HTTP as cameras send it, rightly and wrongly."""

import base64
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from gateway_camera import Answers, Watching, jpeg
from gateway_recording import wait_for

import gateway.camera
from gateway.camera import CameraError, open_camera
from gateway.capture import Capture
from gateway.mjpeg import Stream

pytestmark = pytest.mark.timeout(60)

OK = b"HTTP/1.0 200 OK\r\n"
MULTIPART = OK + b"Content-Type: multipart/x-mixed-replace; boundary=part\r\n\r\n"
IMAGES = [jpeg(number) for number in range(1, 5)]


@pytest.fixture
def answering() -> Iterator[Callable[..., Answers]]:
    made: list[Answers] = []

    def answer(*answers: Sequence[bytes], holds: bool = False) -> Answers:
        made.append(Answers(*answers, holds=holds))
        return made[-1]

    yield answer
    for server in made:
        server.close()


def part(image: bytes, length: int | None = None, boundary: bytes = b"--part", end: bytes = b"\r\n") -> bytes:
    said = str(len(image) if length is None else length).encode()
    return end.join((boundary, b"Content-Type: image/jpeg", b"Content-Length: " + said, b"", image, b""))


def bare_part(image: bytes, end: bytes = b"\r\n") -> bytes:
    """Without a length."""
    return end.join((b"--part", b"Content-Type: image/jpeg", b"", image, b""))


def read_all(url: str) -> tuple[list[bytes], str]:
    """What our own reader gives of the stream, and why it ends."""
    frames, refused = open_camera(url)
    assert isinstance(frames, Stream) and refused == ""
    got = []
    try:
        while True:
            got.append(bytes(frames.read()))
    except CameraError as error:
        return got, str(error)
    finally:
        frames.release()


STREAMS = {
    "as it should be": [MULTIPART, *map(part, IMAGES)],
    "in one piece": [MULTIPART + b"".join(map(part, IMAGES))],
    "byte by byte": [bytes((byte,)) for byte in MULTIPART + b"".join(map(part, IMAGES[:2]))],
    "without lengths": [MULTIPART, *map(bare_part, IMAGES)],
    "without lengths, byte by byte": [bytes((byte,)) for byte in MULTIPART + b"".join(map(bare_part, IMAGES[:2]))],
    "lines that end in LF": [MULTIPART.replace(b"\r", b""), *(part(image, end=b"\n") for image in IMAGES)],
    "neither lengths nor CR": [MULTIPART.replace(b"\r", b""), *(bare_part(image, b"\n") for image in IMAGES)],
    "some with a length": [MULTIPART, part(IMAGES[0]), bare_part(IMAGES[1]), part(IMAGES[2]), bare_part(IMAGES[3])],
    "no line end behind an image": [MULTIPART, *(part(image)[:-2] for image in IMAGES)],
    "a boundary in quotes": [MULTIPART.replace(b"=part", b'="part"'), *map(part, IMAGES)],
    "a boundary in quotes behind other text": [MULTIPART.replace(b"=part", b'="part"') + b"a camera\r\n", *map(part, IMAGES)],
    "a boundary that is said with its dashes": [MULTIPART.replace(b"=part", b"=--part"), *map(part, IMAGES)],
    "another boundary than said": [MULTIPART.replace(b"=part", b"=other"), *map(part, IMAGES)],
    "no boundary said": [MULTIPART.replace(b"; boundary=part", b""), *map(part, IMAGES)],
    "text before the first boundary": [MULTIPART + b"a camera\r\n\r\n", *map(part, IMAGES)],
    "lengths too long by the line end": [MULTIPART, *(part(image, len(image) + 2) for image in IMAGES)],
    "lengths too short": [MULTIPART, *(part(image, len(image) - 50) for image in IMAGES)],
    "lengths into the next part": [MULTIPART, *(part(image, len(image) + 300) for image in IMAGES)],
    "lengths over many parts": [MULTIPART, *(part(image, 1_000_000) for image in IMAGES)],
    "lengths of nothing": [MULTIPART, *(part(image, 0) for image in IMAGES)],
    "headers in capitals, and more of them": [MULTIPART, *(part(image).replace(b"Content-L", b"X: 1\r\nCONTENT-L") for image in IMAGES)],
    "the boundary that ends it": [MULTIPART, *map(part, IMAGES), b"--part--\r\n", part(b"no more")],
}  # fmt: skip


@pytest.mark.parametrize("form", STREAMS)
def test_every_form_of_the_stream_gives_the_cameras_images_whole(answering: Callable[..., Answers], form: str) -> None:
    got, why = read_all(answering(STREAMS[form]).url)
    assert [image.rstrip(b"\r\n") for image in got] == IMAGES[: len(got)]
    assert len(got) == (2 if "byte by byte" in form else 4) and why == "no image"


@pytest.mark.parametrize("whole_part", [part, bare_part])
def test_a_torn_frame_takes_no_other_with_it(answering: Callable[..., Answers], whole_part: Callable[[bytes], bytes]) -> None:
    torn = IMAGES[1][:-40]
    got, _ = read_all(answering([MULTIPART, whole_part(IMAGES[0]), whole_part(torn), whole_part(IMAGES[2])]).url)
    assert got == [IMAGES[0], torn, IMAGES[2]]


def test_after_lost_borders_the_next_boundary_is_one_again(answering: Callable[..., Answers]) -> None:
    lost = part(IMAGES[1])[40:]
    got, _ = read_all(answering([MULTIPART, part(IMAGES[0]), lost, part(IMAGES[2]), bytes(200_000), part(IMAGES[3])]).url)
    assert got == [IMAGES[0], IMAGES[2], IMAGES[3]]


def test_a_frame_cut_off_by_the_end_of_the_stream_is_handed_out_torn(answering: Callable[..., Answers]) -> None:
    got, why = read_all(answering([MULTIPART, part(IMAGES[0]), part(IMAGES[1])[:-100]]).url)
    assert got == [IMAGES[0], IMAGES[1][:-98]] and why == "no image"


def test_a_large_frame_after_small_ones_and_padded_ones_are_kept(answering: Callable[..., Answers]) -> None:
    large = IMAGES[2][:-2] + bytes(range(1, 255)) * 4_000 + b"\xff\xd9"
    sent = [IMAGES[0], large, IMAGES[1] + bytes(9_000), IMAGES[3]]
    assert read_all(answering([MULTIPART, *map(part, sent)]).url)[0] == sent


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "HTTP 404 Not Found"),
        (b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="camera"\r\n\r\n', "HTTP 401 Unauthorized"),
        (b"HTTP/1.1 503\r\n\r\n", "HTTP 503"),
        (OK + b"Content-Type: image/jpeg\r\n\r\n" + IMAGES[0], "one picture (image/jpeg), no stream of them"),
        (b"220 mail.example ESMTP\r\n\r\n", "no answer in HTTP"),
        (b"ready\r\n\r\n", "no answer in HTTP"),
        (OK + b"X: " + b"x" * 9_000, "the answer's head has no end: 8192 bytes are the most"),
        (OK + b"X-A: 1\r\n" * 200 + b"\r\n", "no answer in HTTP"),
        (OK + b"Content-Type: multipart/mixed\r\n\r\nhello\r\n", "parts without a boundary"),
        (MULTIPART, "no image"),
        (b"", "no image"),
    ],
)
def test_what_is_no_stream_is_refused_in_words(answering: Callable[..., Answers], answer: bytes, words: str) -> None:
    with pytest.raises(CameraError) as refused:
        open_camera(answering([answer]).url)
    assert str(refused.value) == words


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (b"--part\r\nX: " + b"x" * 9_000, "a part's head has no end: 8192 bytes are the most"),
        (part(b"", 8_000_001), "a frame of 8000001 bytes, 8000000 are the most"),
        (bare_part(bytes(8_200_000)), "a frame without end: 8000000 bytes are the most"),
    ],
)
def test_what_would_take_memory_without_end_is_given_up(answering: Callable[..., Answers], more: bytes, words: str) -> None:
    assert read_all(answering([MULTIPART, part(IMAGES[0]), more], holds=True).url) == ([IMAGES[0]], words)


@pytest.mark.parametrize("pieces", [[part(IMAGES[1])[:-100]], [b"\r\n--pa"], [bare_part(IMAGES[1])[:-100]], []])
def test_a_camera_that_falls_silent_ends_within_the_time_out(
    answering: Callable[..., Answers], monkeypatch: pytest.MonkeyPatch, pieces: list[bytes]
) -> None:
    monkeypatch.setattr(gateway.camera, "READ_MS", 300)
    began = time.monotonic()
    got, why = read_all(answering([MULTIPART, part(IMAGES[0]), *pieces], holds=True).url)
    assert got[0] == IMAGES[0] and all(IMAGES[1].startswith(torn) for torn in got[1:]) and why == "no image"
    assert 0.25 < time.monotonic() - began < 10


def test_a_camera_that_never_ends_a_head_keeps_no_reader(answering: Callable[..., Answers], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.camera, "READ_MS", 300)

    def drop_by_drop() -> Iterator[bytes]:
        yield MULTIPART + part(IMAGES[0])
        while True:
            time.sleep(0.05)
            yield b"x"

    assert read_all(answering(drop_by_drop()).url) == ([IMAGES[0]], "no image")


def test_a_frame_in_many_packets_wakes_its_reader_only_when_it_is_whole(answering: Callable[..., Answers]) -> None:
    pieces = [bytes((number, 1, 2, 3)) * 250 for number in range(200)]

    def packet_by_packet() -> Iterator[bytes]:
        yield MULTIPART + part(IMAGES[0]) + part(b"\xff\xd8" + b"".join(pieces) + b"\xff\xd9")[: -200_000 - 4]
        for piece in pieces:
            time.sleep(0.0005)
            yield piece
        yield b"\xff\xd9\r\n"

    frames, _ = open_camera(answering(packet_by_packet()).url)
    frames.read()
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    assert bytes(frames.read()) == b"\xff\xd8" + b"".join(pieces) + b"\xff\xd9"
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before < len(pieces) / 4
    frames.release()


def test_user_and_password_of_the_address_are_sent_as_basic(answering: Callable[..., Answers]) -> None:
    server = answering([MULTIPART, part(IMAGES[0])])
    read_all(f"http://front:a%40b@{server.place}/video%20a?size=1&x=ü")
    line, *fields = server.requests[0].decode().split("\r\n")
    assert line == "GET /video%20a?size=1&x=%C3%BC HTTP/1.0"
    assert f"Host: {server.place}" in fields
    assert f"Authorization: Basic {base64.b64encode(b'front:a@b').decode()}" in fields


CHUNKS = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for image in IMAGES for piece in (part(image), b"\r\n"))


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n",
        b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Digest realm="camera", nonce="1"\r\nContent-Length: 0\r\n\r\n',
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + MULTIPART[len(OK) :] + CHUNKS,
    ],
    ids=["redirect", "digest", "chunked"],
)
def test_forms_that_we_do_not_read_go_to_ffmpeg(answering: Callable[..., Answers], first: bytes) -> None:
    again = [first] if b"chunked" in first else [MULTIPART, *map(part, IMAGES)]
    server = answering([first], again)
    frames, _ = open_camera(server.url)
    assert isinstance(frames, Capture)
    assert bytes(frames.read()) == IMAGES[0]
    frames.release()
    assert len(server.requests) == 2


def test_the_torn_and_the_refused_are_told_in_the_recording(
    tmp_path: Path, answering: Callable[..., Answers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.camera, "RECONNECT_SECONDS", 0.05)
    stream = [MULTIPART, part(IMAGES[0]), part(IMAGES[1][:-9]), part(IMAGES[2], len(IMAGES[2]) + 9), part(IMAGES[3])]
    watching = Watching(tmp_path, answering(stream, [b"HTTP/1.0 503 Busy\r\n\r\n"]).url)
    wait_for(
        lambda: watching.bench.snapshot.build()["sensors"].get("camera/front") == {"state": "failed", "reason": "HTTP 503 Busy"}, "503"
    )
    recording = watching.end()
    assert [image.data for image in recording.decoded("/camera/front")] == [IMAGES[0], IMAGES[2], IMAGES[3]]
    assert [(gap.reason, gap.count) for gap in recording.gaps("camera/front") if gap.count] == [("torn images", 1)]
    assert watching.count("images_received") == 4 == watching.images() + watching.count("images_torn")
    assert [event.detail for event in recording.events("source_lost")] == ["no image", "HTTP 503 Busy"]
