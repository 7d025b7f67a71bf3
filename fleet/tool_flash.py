"""`cruisers flash`: the program onto sensor heads, proved, with a passport each; and the signed images that it takes.

Exit codes: 0 every unit is proved, 1 at least one is not, 2 bad input or no board."""

import dataclasses
import getpass
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from firmware.parts import chosen as checked_parts
from fleet import boards, flash_build, flash_many, image
from fleet.boards import Board, BoardError
from fleet.flash_many import Outcome
from fleet.flash_unit import Plan
from fleet.passport import TRUCK
from gateway.head_image import Image, ImageError, public_key
from gateway.head_image import read as read_image

FAILED, BAD_INPUT = 1, 2
_PASSPORTS = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "cruisers" / "units"
_WAIT_AFTER_UF2_S = 15.0

image_app = typer.Typer(no_args_is_help=True, add_completion=False, help="Signed images of the head's program.")


def flash(
    port: Annotated[list[str] | None, typer.Option(help="Serial port of a board; again for another one.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All boards on USB.")] = False,
    truck: Annotated[list[str] | None, typer.Option(help="The truck, one for each --port; else that of the passport.")] = None,
    uf2: Annotated[Path | None, typer.Option(help="MicroPython for boards in BOOTSEL mode.")] = None,
    image_file: Annotated[Path | None, typer.Option("--image", help="A signed image instead of the sources here.")] = None,
    key: Annotated[list[Path] | None, typer.Option(help="Public key (PEM) whose images are trusted.")] = None,
    downgrade: Annotated[bool, typer.Option("--downgrade", help="Take an image that is older than what the head runs.")] = False,
    parts: Annotated[Path | None, typer.Option(help="JSON list of the parts that are fitted; default: as before, or standard.")] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Back to the version in the other slot.")] = False,
    passports: Annotated[Path, typer.Option(help="Folder of passports, labels and unit keys.")] = _PASSPORTS,
    technician: Annotated[str | None, typer.Option(help="Who does it; default: the user's name.")] = None,
    json_out: Annotated[bool, typer.Option("--json", help="One JSON object instead of bars and a table.")] = False,
) -> None:
    """Put the program on sensor heads, prove it, and write each unit's passport and label.

    Interrupted anywhere, the same command completes it; on a unit that has everything it writes nothing.

    Example: cruisers flash --port /dev/ttyACM0 --truck truck-001
    """
    try:
        if uf2 is not None:
            _bootsel(uf2)
        found = boards.chosen(port or [], every)
        trucks = _trucks(truck or [], found)
        wanted = None if rollback else _image(image_file, key or [])
        if rollback and (image_file is not None or downgrade):
            raise BoardError("--rollback takes no image")
        plan = Plan(
            "", "", wanted, flash_build.board_files(), passports, _parts(parts), image_file is not None, downgrade,
            technician or getpass.getuser(), flash_build.technicians_program(),
        )  # fmt: skip
    except (BoardError, ImageError, flash_build.BuildError) as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{error.filename}: {error.strerror}")
    plans = [dataclasses.replace(plan, port=board.port, truck=name) for board, name in zip(found, trucks, strict=True)]
    outcomes = flash_many.flash(plans, lambda *_: None) if json_out else _with_bars(plans)
    if json_out:
        print(json.dumps({"units": [_row(outcome) for outcome in outcomes]}, indent=1, ensure_ascii=False))
    else:
        _print(outcomes)
    raise typer.Exit(FAILED if any(outcome.error for outcome in outcomes) else 0)


def _refuse(why: str) -> NoReturn:
    print(f"cruisers flash: {why}", file=sys.stderr)
    raise typer.Exit(BAD_INPUT)


def _bootsel(uf2: Path) -> None:
    before = len(boards.running())
    count = boards.install(uf2)
    if boards.appeared(before + count, _WAIT_AFTER_UF2_S) < before + count:
        raise BoardError("MicroPython is on the board, but it did not come back on USB: pull it out and plug it in again")


def _trucks(names: Sequence[str], found: Sequence[Board]) -> list[str]:
    for name in names:
        if TRUCK.fullmatch(name) is None:
            raise BoardError(f"{name[:40]!r} is no truck's name: a-z, 0-9 and '-', at most 32")
    if len(set(names)) != len(names):
        raise BoardError("one truck is named twice")
    if names and len(names) != len(found):
        raise BoardError(f"{len(names)} trucks for {len(found)} boards: one --truck for each --port, or none where passports name them")
    return list(names) or [""] * len(found)


def _image(path: Path | None, keys: Sequence[Path]) -> Image:
    if path is None:
        return flash_build.program()
    if not keys:
        raise BoardError("--image: name the trusted key with --key FILE")
    return read_image(path, [public_key(key) for key in keys])


def _parts(path: Path | None) -> list[Any] | None:
    if path is None:
        return None
    try:
        listed = json.loads(path.read_bytes())
    except ValueError as error:
        raise BoardError(f"{path}: not JSON ({error})") from error
    problem = checked_parts(listed)[1]
    if problem:
        raise BoardError(f"{path}: {problem}")
    assert isinstance(listed, list)
    return listed


def _with_bars(plans: Sequence[Plan]) -> list[Outcome]:
    columns = (TextColumn("{task.description:<14}"), BarColumn(24), TextColumn("{task.fields[stage]:<10}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars: dict[str, TaskID] = {}

        def told(port: str, stage: str, part: float) -> None:
            if port not in bars:
                bars[port] = progress.add_task(_short(port), total=1.0, stage=stage)
            progress.update(bars[port], completed=part, stage=stage)

        outcomes = flash_many.flash(plans, told)
        for outcome in outcomes:
            if outcome.error and outcome.port in bars:
                progress.update(bars[outcome.port], stage="failed")
        return outcomes


def _short(port: str) -> str:
    """A port in 14 characters: its end tells the boards apart."""
    name = port.removeprefix("/dev/")
    return name if len(name) <= 14 else f"…{name[-13:]}"


def _row(outcome: Outcome) -> dict[str, Any]:
    proof = outcome.proof
    row: dict[str, Any] = {"port": outcome.port, "proved": proof is not None and not outcome.error, "error": outcome.error}
    if proof is not None:
        row |= {"unit": proof.passport.unit, "truck": proof.passport.truck, "version": proof.passport.version, "written": proof.written}
    row["passport"] = str(outcome.passport) if outcome.passport else None
    return row


def _print(outcomes: Sequence[Outcome]) -> None:
    table = Table(box=None, pad_edge=False, header_style="")
    for column in ("port", "unit", "truck", "version", "written", "outcome"):
        table.add_column(column, overflow="fold")
    for outcome in outcomes:
        proof = outcome.proof
        if outcome.error or proof is None:
            table.add_row(_short(outcome.port), "", "", "", "", "[red]failed[/]")
        else:
            passport = proof.passport
            said = "[green]proved[/]" if outcome.passport else "[green]unchanged[/]"
            files = f"{proof.written} files" if proof.written else "nothing"
            table.add_row(_short(outcome.port), passport.unit, passport.truck, passport.version, files, said)
    console = Console(highlight=False)
    console.print(table)
    for outcome in outcomes:
        if outcome.error:
            console.print(f"{_short(outcome.port)}: {outcome.error}", markup=False)
    folders = {outcome.passport.parent for outcome in outcomes if outcome.passport}
    for folder in folders:
        console.print(f"passports, labels and keys: {folder}", markup=False, soft_wrap=True)


@image_app.command("key")
def image_key(private: Annotated[Path, typer.Argument(help="Where the private key goes; the public one beside it, as .pub.")]) -> None:
    """Make a pair of keys: one signs images, the other is given to who takes them.

    Example: cruisers image key fleet.pem
    """
    made = Ed25519PrivateKey.generate()
    public = private.with_name(private.name + ".pub")
    try:
        descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public.write_bytes(made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    except OSError as error:
        _refuse(f"{error.filename}: {error.strerror}")
    print(f"{private}: keep it secret; {public}: for --key")


@image_app.command("make")
def image_make(
    out: Annotated[Path, typer.Argument(help="The image file.")],
    key: Annotated[Path, typer.Option(help="Private key (PEM) that signs it.")],
) -> None:
    """Compile the head's program from the sources here and sign it.

    Example: cruisers image make head-0.1.0.image --key fleet.pem
    """
    try:
        program = flash_build.program()
        content = image.build(program, image.private_key(key))
        out.write_bytes(content)
    except (ImageError, flash_build.BuildError) as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{error.filename}: {error.strerror}")
    print(f"{out}: version {program.version}, {len(program.files)} files, {len(content)} bytes, signed")


@image_app.command("show")
def image_show(
    path: Annotated[Path, typer.Argument(help="The image file.")], key: Annotated[list[Path], typer.Option(help="Trusted key.")]
) -> None:
    """Verify an image and list what is in it.

    Example: cruisers image show head-0.1.0.image --key fleet.pem.pub
    """
    try:
        shown = read_image(path, [public_key(one) for one in key])
    except ImageError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{error.filename}: {error.strerror}")
    print(f"version {shown.version}, {len(shown.files)} files, signature good")
    for name, digest in shown.hashes().items():
        print(f"{digest[:16]}  {len(shown.files[name]):6}  {name}")
