"""The signed image: one version of the head's program in one file, for `cruisers flash --image` and for updates over the serial link.

A ZIP archive, stored, of three kinds of members and no others:

    manifest.json    {"files": {NAME: {"sha256": HEX, "size": BYTES}, ...}, "format": 1, "version": "1.2.3"}
    signature        64 bytes: ed25519 over SIGNED_FOR and the bytes of manifest.json as they stand in the archive
    files/NAME       each file of the manifest

Nothing is believed before the signature of a trusted key has been verified, nothing is read that is larger than the limits below, and every
file must be there with its size and SHA-256. The archive around it (dates, order, attributes) means nothing and is not signed.

Version policy: the version is three numbers. An older one than the head runs is refused unless the technician asks for it in so many words;
the same version with other content is refused always: two programs must not carry one name.

Limits: ed25519 costs too much on the RP2040, so the head itself verifies SHA-256 and an HMAC under its unit key only. Whoever has the
private key, or a unit key and the truck's Pi, can make a head run anything. The signer's half is fleet/image.py."""

import hashlib
import io
import json
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

FORMAT = 1
SIGNED_FOR = b"cruisers head image 1\n"  # so that a signature made for something else is none for an image
FILE_MAX = 256 * 1024  # bytes; the largest module has 20 kB of bytecode
FILES_MAX = 200
TOTAL_MAX = 600 * 1024  # bytes; two slots must fit into the head's 1408 kB
_MANIFEST_MAX = 64 * 1024
_SIGNATURE_BYTES = 64
_NAME = re.compile(r"[a-z0-9_]+(/[a-z0-9_]+)?\.(mpy|py|json)")
_VERSION = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})")
_HASH = re.compile(r"[0-9a-f]{64}")


class ImageError(Exception):
    """The image is refused; one line says why."""


@dataclass(frozen=True)
class Image:
    """A version of the head's program: each file's bytes by its name in the slot."""

    version: str
    files: Mapping[str, bytes]

    def hashes(self) -> dict[str, str]:
        """Each file's SHA-256, hex."""
        return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(self.files.items())}


def numbers(version: str) -> tuple[int, int, int]:
    """The three numbers of a version, to compare by. ImageError if it has another form."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ImageError(f"{version[:40]!r} is no version: three numbers such as 1.2.3")
    major, minor, patch = match.groups()
    return int(major), int(minor), int(patch)


def check(image: Image) -> None:
    """ImageError unless names, sizes and version are ones that a head can take."""
    numbers(image.version)
    if not 0 < len(image.files) <= FILES_MAX:
        raise ImageError(f"an image has 1 to {FILES_MAX} files, not {len(image.files)}")
    for name, content in image.files.items():
        if _NAME.fullmatch(name) is None:
            raise ImageError(f"{name[:60]!r} is no name of a head's file")
        if len(content) > FILE_MAX:
            raise ImageError(f"{name}: {len(content)} bytes are more than {FILE_MAX}")
    if sum(map(len, image.files.values())) > TOTAL_MAX:
        raise ImageError(f"the files are larger than {TOTAL_MAX} bytes together")


def read(path: Path, trusted: Sequence[Ed25519PublicKey]) -> Image:
    """The image in `path`, verified under one of the `trusted` keys. ImageError says what is wrong; OSError: not to be read."""
    if path.stat().st_size > 2 * TOTAL_MAX:
        raise ImageError(f"{path}: too large for an image")
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            return _verified(archive, trusted)
    except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError, LookupError, ArithmeticError, struct.error) as error:  # zipfile's, all
        raise ImageError(f"{path}: no image, or a damaged one ({error})") from error
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


def _verified(archive: zipfile.ZipFile, trusted: Sequence[Ed25519PublicKey]) -> Image:
    members = {info.filename: info for info in archive.infolist()}
    if len(members) != len(archive.infolist()):
        raise ImageError("a name stands twice in it")
    manifest = _member(archive, members, "manifest.json", _MANIFEST_MAX)
    signature = _member(archive, members, "signature", _SIGNATURE_BYTES)
    if not any(_signed(key, signature, manifest) for key in trusted):
        raise ImageError("not signed by a key that is trusted here")
    version, listed = _manifest(manifest)
    if set(members) != {"manifest.json", "signature"} | {f"files/{name}" for name in listed}:
        raise ImageError("its files are not those of its manifest")
    files = {}
    for name, (size, digest) in listed.items():
        content = _member(archive, members, f"files/{name}", FILE_MAX)
        if len(content) != size or hashlib.sha256(content).hexdigest() != digest:
            raise ImageError(f"{name} is not what was signed")
        files[name] = content
    image = Image(version, files)
    check(image)
    return image


def _member(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str, limit: int) -> bytes:
    info = members.get(name)
    if info is None:
        raise ImageError(f"{name} is missing")
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit or info.flag_bits & 1:
        raise ImageError(f"{name} is larger than {limit} bytes, packed or encrypted")
    return archive.read(info)


def _signed(key: Ed25519PublicKey, signature: bytes, manifest: bytes) -> bool:
    try:
        key.verify(signature, SIGNED_FOR + manifest)
    except InvalidSignature:
        return False
    return True


def _manifest(text: bytes) -> tuple[str, dict[str, tuple[int, str]]]:
    """Version, and size and hash by name. It is signed, but a mistake of the signer must not be half believed either."""
    try:
        about = json.loads(text)
        if about["format"] != FORMAT:
            raise ImageError(f"format {about['format']!r} is not known to this version of cruisers")
        listed = {str(name): (int(row["size"]), str(row["sha256"])) for name, row in about["files"].items()}
        version = str(about["version"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImageError(f"its manifest makes no sense ({type(error).__name__}: {error})") from error
    if not all(_HASH.fullmatch(digest) for _, digest in listed.values()):
        raise ImageError("its manifest makes no sense (a hash)")
    return version, listed


def permit(image: Image, running: str, running_hashes: Mapping[str, str] | None, *, downgrade: bool = False) -> None:
    """ImageError where the policy forbids `image` on a head that runs the version `running` with those files. None: they do not
    matter, as for a program that was compiled just now and signed by nobody."""
    if image.version == running:
        if running_hashes is not None and dict(running_hashes) != image.hashes():
            raise ImageError(f"version {running} is on the head with other content: a new content needs a new version")
    elif not downgrade and numbers(image.version) < numbers(running):
        raise ImageError(f"version {image.version} is older than {running} on the head (--downgrade takes it)")


def public_key(path: Path) -> Ed25519PublicKey:
    """A trusted key from a PEM file. ImageError if it is none."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (ValueError, TypeError) as error:
        raise ImageError(f"{path}: no public key in PEM form") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ImageError(f"{path}: not an ed25519 key")
    return key
