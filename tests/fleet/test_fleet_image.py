"""Signed images: what is believed of them, and which version may follow which."""

import io
import json
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleet.image import build
from gateway.head_image import SIGNED_FOR, Image, ImageError, permit, read

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
IMAGE = Image("1.2.3", {"firmware/main.mpy": b"M\x06 main", "drivers/bmp390.mpy": b"M\x06 driver"})


def kept(folder: Path, content: bytes) -> Path:
    path = folder / "head.image"
    path.write_bytes(content)
    return path


def archive(members: dict[str, bytes], packed: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packed) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return out.getvalue()


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_an_image_comes_back_as_it_was_signed_and_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    content = build(IMAGE, KEY)
    assert content == build(IMAGE, KEY)
    assert read(kept(tmp_path, content), [OTHER.public_key(), KEY.public_key()]) == IMAGE


def test_an_image_of_another_signer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="not signed by a key that is trusted"):
        read(kept(tmp_path, build(IMAGE, OTHER)), [KEY.public_key()])


def test_a_flipped_byte_never_changes_what_is_read(tmp_path: Path) -> None:
    content = build(IMAGE, KEY)
    harmless = 0
    for at in range(0, len(content), 3):
        path = kept(tmp_path, content[:at] + bytes((content[at] ^ 0x20,)) + content[at + 1 :])
        try:
            assert read(path, [KEY.public_key()]) == IMAGE, at  # a date in the archive around it means nothing
            harmless += 1
        except ImageError:
            continue
    assert harmless < len(content) / 3 / 2


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"files/firmware/extra.mpy": b"x"}, "not those of its manifest"),
        ({"files/firmware/main.mpy": b"M\x06 evil"}, "not what was signed"),
        ({"signature": KEY.sign(b"something else")}, "not signed"),
    ],
)
def test_an_archive_that_was_changed_after_signing_is_refused(tmp_path: Path, change: dict[str, bytes], why: str) -> None:
    with pytest.raises(ImageError, match=why):
        read(kept(tmp_path, archive(members(build(IMAGE, KEY)) | change)), [KEY.public_key()])


@pytest.mark.parametrize("name", ["../main.py", "firmware/../../x.mpy", "/boot.py", "firmware/x.exe", "a/b/c.mpy"])
def test_a_signer_cannot_write_outside_of_the_slot_either(tmp_path: Path, name: str) -> None:
    manifest = json.dumps({"format": 1, "version": "1.0.0", "files": {name: {"sha256": "0" * 64, "size": 1}}}).encode()
    content = archive({"manifest.json": manifest, "signature": KEY.sign(SIGNED_FOR + manifest), f"files/{name}": b"x"})
    with pytest.raises(ImageError):
        read(kept(tmp_path, content), [KEY.public_key()])
    with pytest.raises(ImageError, match="no name of a head's file"):
        build(Image("1.0.0", {name: b"x"}), KEY)


def test_a_packed_member_is_not_unpacked(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="packed"):
        read(kept(tmp_path, archive({"manifest.json": bytes(60_000), "signature": bytes(64)}, zipfile.ZIP_DEFLATED)), [KEY.public_key()])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive at all", bytes(1000)])
def test_what_is_no_archive_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        read(kept(tmp_path, content), [KEY.public_key()])
    assert "\n" not in str(caught.value)


def test_an_older_version_needs_to_be_asked_for_and_the_same_one_must_be_the_same() -> None:
    permit(IMAGE, "1.2.2", {})
    permit(IMAGE, "1.2.3", IMAGE.hashes())
    with pytest.raises(ImageError, match="older than 1.10.0"):
        permit(IMAGE, "1.10.0", {})  # numbers, not letters
    permit(IMAGE, "1.10.0", {}, downgrade=True)
    with pytest.raises(ImageError, match="other content"):
        permit(IMAGE, "1.2.3", {"firmware/main.mpy": "0" * 64}, downgrade=True)
    permit(IMAGE, "1.2.3", None)
    with pytest.raises(ImageError, match="no version"):
        permit(IMAGE, "nightly", None)
    permit(IMAGE, "nightly", None, downgrade=True)
