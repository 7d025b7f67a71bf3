"""The head's bytecode: made once, by whoever asks first, kept where it can be, and not for ever."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sim import compiled as room
from sim.compiled import CompileError, compiled

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one file in each room, and a home of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "checkout"
    for name in room.ROOMS:
        (root / name).mkdir(parents=True)
        (root / name / "one.py").write_text("ONE = 1\n")
    return root


def test_the_same_sources_are_compiled_once_and_others_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = compiled(root)
    assert folder.parent == root / "build" and {path.name for path in folder.rglob("*.mpy")} == {"one.mpy"}
    monkeypatch.setattr(room, "_compile", lambda *told: pytest.fail("compiled again"))
    assert compiled(root) == folder
    monkeypatch.undo()
    (root / "drivers" / "one.py").write_text("ONE = 2\n")
    assert compiled(root) != folder and folder.exists()


def test_many_that_ask_at_once_get_the_same_whole_folder(root: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: compiled(root), range(16)))
    assert len(folders) == 1 and len(list(folders.pop().rglob("*.mpy"))) == 2
    assert [path.name.split("-")[0] for path in (root / "build").iterdir()] == ["head"]


def test_what_nobody_asked_for_in_a_week_is_removed_and_what_is_asked_for_stays(root: Path) -> None:
    build = root / "build"
    used, unused, broken_off = compiled(root), build / "head-0123", build / "making-xyz"
    unused.mkdir()
    broken_off.mkdir()
    (build / "notes").mkdir()
    long_ago = time.time() - 8 * 86_400
    for folder in build.iterdir():
        os.utime(folder, (long_ago, long_ago))
    assert compiled(root) == used
    (root / "drivers" / "one.py").write_text("ONE = 3\n")
    fresh = compiled(root)
    assert {path.name for path in build.iterdir()} == {used.name, fresh.name, "notes"}


def test_a_checkout_that_cannot_be_written_to_keeps_it_in_the_users_cache(root: Path, tmp_path: Path) -> None:
    (root / "build").write_text("a file where a folder would have to be made")
    assert compiled(root).parent == tmp_path / "cache" / "cruisers"
    (tmp_path / "cache" / "cruisers").rename(tmp_path / "elsewhere")
    (tmp_path / "cache" / "cruisers").write_text("and another")
    with pytest.raises(OSError, match="build"):
        compiled(root)


def test_a_file_that_does_not_compile_is_named_and_nothing_is_left(root: Path) -> None:
    (root / "firmware" / "one.py").write_text("def f(:\n")
    with pytest.raises(CompileError, match=r"firmware/one\.py: SyntaxError"):
        compiled(root)
    assert list((root / "build").iterdir()) == []
