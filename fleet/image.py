"""The signer's half of the signed image (gateway/head_image.py): builds the archive, with the private key that stays in the office."""

import io
import json
import zipfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.head_image import FORMAT, SIGNED_FOR, Image, ImageError, check


def build(image: Image, key: Ed25519PrivateKey) -> bytes:
    """The archive, signed. The same image and key give the same bytes. ImageError if the image is none."""
    check(image)
    about = {name: {"sha256": digest, "size": len(image.files[name])} for name, digest in image.hashes().items()}
    manifest = json.dumps({"format": FORMAT, "version": image.version, "files": about}, sort_keys=True, separators=(",", ":")).encode()
    members = {"manifest.json": manifest, "signature": key.sign(SIGNED_FOR + manifest)}
    members.update({f"files/{name}": image.files[name] for name in sorted(image.files)})
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # ZipInfo's own date: 1980, always the same
    return out.getvalue()


def private_key(path: Path) -> Ed25519PrivateKey:
    """The signer's key from a PEM file. ImageError if it is none."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise ImageError(f"{path}: no private key in PEM form without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ImageError(f"{path}: not an ed25519 key")
    return key
