"""The configuration: one line says what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from center.config import ConfigError, load

GOOD = """
archive = "archive"
trucks = ["truck-1", "truck-2"]
[hub]
domain = "hub.example"
host = "127.0.0.1"
port = 5222
ca_file = "ca.pem"
password_file = "secret"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "center.toml"
    path.write_text(text)
    return path


def test_a_good_file_is_read_and_stays_on_loopback(tmp_path):
    center = load(write(tmp_path, GOOD))
    assert (center.trucks, center.hub.user, center.http_host, center.http_port) == (["truck-1", "truck-2"], "center", "127.0.0.1", 0)


BAD = [
    ("archive =", "archiv ="), ("5222", "70000"), ("5222", '"5222"'), ('"truck-1"', '"Truck 1"'), ('"truck-1"', '"truck-2"'),
    ('["truck-1", "truck-2"]', "[]"), ("[hub]", "[hub"), ("[hub]", "colour = 1\n[hub]"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), BAD)
def test_a_bad_file_is_one_clear_line(tmp_path, old, new):
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def run(config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "center", str(config)], capture_output=True, text=True, timeout=50)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", [GOOD.replace('"truck-1"', '"Truck 1"'), GOOD])
def test_the_command_ends_with_2_and_one_line_before_anything_is_started(tmp_path, text):
    config = write(tmp_path, text.replace('"archive"', f'"{tmp_path / "archive"}"'))
    result = run(config)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stderr.startswith("center: ")
    assert not (tmp_path / "archive").exists()


def test_an_archive_on_s3_needs_a_folder_for_its_state_and_keys_are_never_quoted(tmp_path):
    on_s3 = GOOD.replace('"archive"', '"s3://bucket/city"')
    with pytest.raises(ConfigError, match="needs `state`"):
        load(write(tmp_path, on_s3))
    keys = tmp_path / "keys.toml"
    keys.write_text('secret = "hush"\n')
    center = load(write(tmp_path, f'state = "{tmp_path}"\n{on_s3}\n[s3]\nkey_file = "{keys}"\n'))
    with pytest.raises(ConfigError) as caught:
        center.store()
    assert str(keys) in str(caught.value)
    assert "hush" not in str(caught.value)
