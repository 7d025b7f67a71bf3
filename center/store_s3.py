"""An archive in a bucket of an S3 service, through pyarrow's file system (objects) and delta-rs (tables).

Objects are written under their final key: S3 shows an object when its PUT, or the end of its multipart upload (16 MB go in two parts), was
answered, and never half of one. After the answer the object is read back and its SHA-256 taken again; only then is it durable for us. That
costs each byte a second way through the network of the service, and makes no promise depend on what its checksums cover. A multipart
upload that a kill leaves unfinished holds space but shows no object: let the bucket's life cycle rule end it (docs/archive.md).
"""

import contextlib
import hashlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs as fs  # type: ignore[import-untyped]

from center.store import SCHEME, TABLES, Kept, StoreError, kept

PART_BYTES = 8 * 1024 * 1024  # read from the file and hashed at a time
CONNECT_S, REQUEST_S = 10.0, 60.0  # silence of the service after which a request has failed


class S3Store:
    """Objects below one prefix of a bucket. Credentials that are not given come from the environment, as the AWS tools have them."""

    def __init__(self, address: str, endpoint: str, region: str, keys: tuple[str, str] | None) -> None:
        """`address` is s3://bucket/prefix, `endpoint` an http(s) address or "" for AWS, `keys` access and secret key;
        raises StoreError."""
        self._root = address.removeprefix(SCHEME).strip("/")
        if not address.startswith(SCHEME) or not self._root:
            raise StoreError(f"{address!r} is not s3://bucket/prefix")
        scheme, _, host = endpoint.rpartition("://")
        if endpoint and (scheme not in ("http", "https") or not host):
            raise StoreError(f"S3 endpoint {endpoint!r} is not http://host:port or https://host:port")
        named: dict[str, Any] = {"access_key": keys[0], "secret_key": keys[1]} if keys else {}
        if endpoint:
            named |= {"endpoint_override": host, "scheme": scheme}
        if region:
            named |= {"region": region}
        self._files = fs.S3FileSystem(connect_timeout=CONNECT_S, request_timeout=REQUEST_S, background_writes=False, **named)
        options = {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": region, "AWS_ALLOW_HTTP": "true" if scheme == "http" else ""}
        if keys:
            options |= {"AWS_ACCESS_KEY_ID": keys[0], "AWS_SECRET_ACCESS_KEY": keys[1]}
        self._options = {name: value for name, value in options.items() if value}

    @property
    def tables(self) -> str:
        return f"{SCHEME}{self._root}/{TABLES}"

    @property
    def options(self) -> dict[str, str]:
        return dict(self._options)

    def sync_table(self, name: str, version: int) -> None:
        """A PUT that was answered is durable."""

    def tables_there(self) -> list[str]:
        found = self._files.get_file_info(fs.FileSelector(f"{self._root}/{TABLES}", recursive=False, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == fs.FileType.Directory)

    def remove_tables(self) -> None:
        self._files.delete_dir_contents(f"{self._root}/{TABLES}", missing_dir_ok=True)

    def prepare(self) -> None:
        bucket = self._root.partition("/")[0]
        if self._files.get_file_info(bucket).type == fs.FileType.NotFound:
            raise StoreError(f"no bucket {bucket}")

    def put(self, part: Path, key: str, sha256: str) -> None:
        with part.open("rb") as file, self._files.open_output_stream(self._path(key)) as stream:
            while data := file.read(PART_BYTES):
                stream.write(data)
        if hashlib.sha256(self.read(key)).hexdigest() != sha256:
            raise StoreError(f"{SCHEME}{self._path(key)}: what came back is not what was stored")

    def size(self, key: str) -> int | None:
        info = self._files.get_file_info(self._path(key))
        return int(info.size) if info.type == fs.FileType.File else None

    def read(self, key: str) -> bytes:
        with self._files.open_input_file(self._path(key)) as file:
            return bytes(file.read())

    @contextlib.contextmanager
    def file(self, key: str, scratch: Path) -> Iterator[Path]:
        copy = scratch / f"{secrets.token_hex(8)}.mcap"
        try:
            copy.write_bytes(self.read(key))
            yield copy
        finally:
            copy.unlink(missing_ok=True)

    def listed(self) -> Iterator[Kept]:
        selector = fs.FileSelector(self._root, recursive=False, allow_not_found=True)
        folders = [info.path for info in self._files.get_file_info(selector) if info.type == fs.FileType.Directory]
        for folder in folders:
            for info in self._files.get_file_info(fs.FileSelector(folder, recursive=False, allow_not_found=True)):
                found = kept(info.path.removeprefix(self._root).strip("/"), int(info.size or 0)) if info.is_file else None
                if found is not None:
                    yield found

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"
