"""Backup and restore of a city's hub: one folder with

- `database`: pg_dump's custom format, one consistent moment, taken while the hub runs: accounts (SCRAM keys), nodes, rights, items;
- `desk.tar`: what the desk alone has: secrets/, tls/ with the authority's key, the cookie, rights.json;
- `backup.json`: SHA-256 and size of the two, written last: a folder without it is no backup.

Uploads are not in it. A truck keeps a segment until the center has stored it, so a lost upload is uploaded anew (the center answers a
missing object with a refusal); yesterday's copy of the folder would hold what the center has long fetched.

A restore goes into an empty database and an absent or empty home, and checks everything before it writes. What was revoked after the
backup is an account again: revoke it anew.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from hub.errors import HubError
from hub.production.city import City
from hub.production.node import COOKIE

KEPT = ("secrets", "tls", COOKIE, "rights.json")  # of the desk's home; what else lies there is made anew
DATABASE, DESK, MANIFEST = "database", "desk.tar", "backup.json"
SECONDS = 3600.0  # for PostgreSQL's tools; 100 trucks with full nodes are 1 GB
NEEDS = "PostgreSQL's tools are not installed: sudo apt-get install postgresql-client"


def backup(city: City, home: Path, target: Path) -> dict[str, int]:
    """Write the backup into the new folder `target`; returns the sizes in bytes. Raises HubError, and leaves nothing then."""
    if not (home / "secrets").is_dir():
        raise HubError(f"{home}: no secrets there: back up on the desk")
    try:
        target.mkdir(mode=0o700)
    except OSError as error:
        raise HubError(f"{target}: {error.strerror}") from error
    try:
        _run(["pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={target / DATABASE}", *_database(city)], city)
        with tarfile.open(target / DESK, "x") as archive:
            for name in KEPT:
                if (home / name).exists():
                    archive.add(home / name, name)
        sizes = {}
        parts = {}
        for name in (DATABASE, DESK):
            os.chmod(target / name, 0o600)
            with open(target / name, "rb") as part:
                os.fsync(part.fileno())
            sizes[name] = (target / name).stat().st_size
            parts[name] = {"size": sizes[name], "sha256": _sha256(target / name)}
        _synced(target / MANIFEST, json.dumps({"domain": city.domain, "parts": parts}, indent=1) + "\n")
    except OSError as error:
        shutil.rmtree(target)
        raise HubError(f"{error.filename or target}: {error.strerror or error}") from error
    except BaseException:
        shutil.rmtree(target)
        raise
    return sizes


def check(source: Path, domain: str | None = None) -> None:
    """Raises HubError where `source` is no whole backup (of `domain`)."""
    try:
        manifest = json.loads((source / MANIFEST).read_text("utf-8"))
        parts = {name: (manifest["parts"][name]["size"], manifest["parts"][name]["sha256"]) for name in (DATABASE, DESK)}
        for name, (size, sha256) in parts.items():
            if ((source / name).stat().st_size, _sha256(source / name)) != (size, sha256):
                raise HubError(f"{source / name}: damaged: not what {MANIFEST} says")
        if domain is not None and manifest["domain"] != domain:
            raise HubError(f"{source}: is of {manifest['domain']}, not of {domain}")
    except OSError as error:
        raise HubError(f"{error.filename}: {error.strerror}: not a whole backup") from error
    except (ValueError, KeyError, TypeError) as error:
        raise HubError(f"{source / MANIFEST}: not a backup's: {error!r}") from error


def restore(city: City, source: Path, home: Path) -> None:
    """Put the backup `source` into the empty database of `city` and into `home`; raises HubError. The database takes all or nothing."""
    check(source, city.domain)
    if home.exists() and any(home.iterdir()):
        raise HubError(f"{home}: not empty: restore into a new folder")
    tables = _run(["psql", "--no-psqlrc", "--tuples-only", "--no-align", *_database(city), "--command",
                   "select count(*) from pg_tables where schemaname = 'public'"], city)  # fmt: skip
    if tables.strip() != "0":
        raise HubError(f"database {city.sql.database}: not empty ({tables.strip()} tables): create a new one")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tarfile.open(source / DESK) as archive:
        archive.extractall(home, filter="data")
    _run(
        [
            "pg_restore",
            "--no-owner",
            "--no-privileges",
            "--exit-on-error",
            "--single-transaction",
            *_database(city),
            str(source / DATABASE),
        ],
        city,
    )


def _database(city: City) -> list[str]:
    sql = city.sql
    return [f"--host={sql.server}", f"--port={sql.port}", f"--username={sql.user}", f"--dbname={sql.database}", "--no-password"]


def _run(command: Sequence[str], city: City) -> str:
    secure = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(city.sql.ca_file)} if city.sql.ca_file else {}
    environment = {**os.environ, "PGPASSWORD": city.sql.password(), **secure}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    except FileNotFoundError as error:
        raise HubError(NEEDS) from error
    except subprocess.TimeoutExpired as error:
        raise HubError(f"{command[0]}: not done within {SECONDS:g} s") from error
    if done.returncode:
        raise HubError(f"{command[0]}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return done.stdout


def _sha256(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _synced(file: Path, text: str) -> None:
    with open(file, "x", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
