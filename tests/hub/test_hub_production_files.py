"""What a city's hub writes and reads without any server: configuration, city.toml, backups."""

import json
import sys
from pathlib import Path

import pytest

from hub import certificates
from hub.configuration import render as single
from hub.errors import HubError
from hub.production import backup, city, node, render
from hub.production.tool import app

TEXT = """
domain = "hub.city.example"
upload_folder = "/srv/uploads"
[sql]
server = "10.0.0.9"
database = "city"
user = "cruisers"
password_file = "{folder}/password"
[[nodes]]
name = "a"
host = "10.0.0.1"
put_port = 5444
[[nodes]]
name = "b"
host = "10.0.0.2"
put_port = 5445
"""
FILES = certificates.Files(Path("/tls/ca.pem"), Path("/tls/server.pem"), Path("/tls/server-key.pem"))


@pytest.fixture
def city_file(tmp_path):
    (tmp_path / "password").write_text('with "quotes" and: é\n', "utf-8")
    file = tmp_path / "city.toml"
    file.write_text(TEXT.format(folder=tmp_path), "utf-8")
    return file


def test_a_node_differs_from_the_single_hub_in_the_documented_parts_only(city_file):
    given = city.read(city_file)
    alone = single(render.addresses(given, given.nodes[1]), FILES, "/srv/uploads", "run/commands").splitlines()
    together = render.configuration(given, given.nodes[1], FILES, "run/commands").splitlines()
    assert [line for line in alone if line not in together] == [
        "auth_method: mnesia", '    put_url: "https://10.0.0.2:5443/upload"', '    get_url: "https://10.0.0.2:5443/upload"',
    ]  # fmt: skip
    assert [line for line in together if line not in alone] == [
        "auth_method: sql", 'default_db: "sql"', 'sql_type: "pgsql"', 'sql_server: "10.0.0.9"', "sql_port: 5432", 'sql_database: "city"',
        'sql_username: "cruisers"', 'sql_password: "with \\"quotes\\" and: \\u00e9"', f"sql_pool_size: {render.POOL}",
        f"sql_keepalive_interval: {render.KEEPALIVE_SECONDS}", "    port: 5445", "    db_type: sql",
        '    put_url: "https://hub.city.example:5445/upload"', '    get_url: "https://hub.city.example:5443/upload"',
    ]  # fmt: skip
    assert together.count("      /upload: mod_http_upload") == 2 and together.count("    tls: true") == 2


def test_a_part_that_is_not_there_to_be_replaced_is_an_error(city_file, monkeypatch):
    given = city.read(city_file)
    for gone in ("auth_method: mnesia", "    plugins: [flat]", "    put_url: ", "      /upload: mod_http_upload"):
        monkeypatch.setattr(render, "render", lambda *given, gone=gone: single(*given).replace(gone, "something: else"))
        with pytest.raises(HubError, match=r"hub/configuration\.py has changed"):
            render.configuration(given, given.nodes[0], FILES, "run/commands")


def test_the_example_is_a_city():
    given = city.read(Path(city.__file__).with_name("city.example.toml"))
    assert [one.erlang for one in given.nodes] == ["a@10.0.0.1", "b@10.0.0.2"] and given.is_desk(given.node("a"))


@pytest.mark.parametrize(("old", "new", "said"), [
    ('domain = "hub.city.example"', "", "missing required field `domain`"),
    ('name = "b"', 'name = "a"', "same name"),
    ("10.0.0.2", "10.0.0.1", "same host"),
    ("5445", "5444", "same put_port"),
    ("5445", "5222", "same port"),
    ("5445", "70000", "65535"),
    ("10.0.0.2", "hub-b", "'hub-b' of node b is not an IP address"),
    ("10.0.0.2", "0.0.0.0", "one IPv4 address"),
    ("10.0.0.2", "fd00::2", "one IPv4 address"),
    ('name = "b"', 'name = "B b"', "'B b'"),
    ('"/srv/uploads"', '"uploads"', "absolute"),
    ('"/srv/uploads"', "7", "upload_folder"),
    ("[sql]", "[sql", "city.toml"),
    ('user = "cruisers"', 'users = "x"', "users"),
])  # fmt: skip
def test_a_city_file_that_cannot_be_is_refused_with_the_reason(city_file, capsys, monkeypatch, old, new, said):
    city_file.write_text(city_file.read_text("utf-8").replace(old, new), "utf-8")
    code, output = command(monkeypatch, capsys, "configuration", "--city", city_file, "--name", "a", "--home", city_file.parent)
    assert code == 2 and output.out == "" and len(output.err.splitlines()) == 1
    assert said in output.err and "city.toml" in output.err


def test_the_configuration_is_shown_without_the_databases_password(city_file, capsys, monkeypatch):
    code, output = command(monkeypatch, capsys, "configuration", "--city", city_file, "--name", "b", "--home", "/var/lib/cruisers-hub")
    assert code == 0 and "quotes" not in output.out
    assert "sql_password: (not shown)" in output.out and '"/var/lib/cruisers-hub/tls/server.pem"' in output.out
    code, output = command(monkeypatch, capsys, "configuration", "--city", city_file, "--name", "c", "--home", "/h")
    assert code == 2 and "no node 'c': there are a, b" in output.err


def test_a_node_that_is_not_the_desk_says_what_must_be_copied_to_it(city_file, tmp_path):
    given = city.read(city_file)
    home = tmp_path / "b"
    (home / "tls").mkdir(parents=True)
    with pytest.raises(HubError, match=r"tls/ca\.pem: not there: copy it from node a"):
        node.prepare(home, given, given.nodes[1])
    desk = tmp_path / "a"
    desk.mkdir()
    files = node.prepare(desk, given, given.nodes[0])
    for file in files:
        (home / "tls" / file.name).write_bytes(file.read_bytes())
    (home / node.COOKIE).write_bytes((desk / node.COOKIE).read_bytes())
    with pytest.raises(HubError, match="others may read it"):
        node.prepare(home, given, given.nodes[1])
    for file in (home / node.COOKIE, home / "tls" / "server-key.pem"):
        file.chmod(0o400)
    assert node.prepare(home, given, given.nodes[1]).ca.read_bytes() == files.ca.read_bytes()
    assert not (home / "secrets").exists() and (desk / node.NEW).exists()


def test_a_backup_that_is_not_whole_or_of_another_city_is_refused_before_anything_is_written(city_file, tmp_path):
    given, source, home = city.read(city_file), tmp_path / "backup", tmp_path / "home"
    source.mkdir()
    (source / backup.DATABASE).write_bytes(b"database")
    (source / backup.DESK).write_bytes(b"desk")
    parts = {
        name: {"size": (source / name).stat().st_size, "sha256": backup._sha256(source / name)} for name in (backup.DATABASE, backup.DESK)
    }
    with pytest.raises(HubError, match="not a whole backup"):
        backup.restore(given, source, home)
    (source / backup.MANIFEST).write_text(json.dumps({"domain": "other.example", "parts": parts}), "utf-8")
    with pytest.raises(HubError, match=r"is of other\.example, not of hub\.city\.example"):
        backup.restore(given, source, home)
    (source / backup.DATABASE).write_bytes(b"databasE")
    with pytest.raises(HubError, match="damaged"):
        backup.restore(given, source, home)
    (source / backup.MANIFEST).write_text("{}", "utf-8")
    with pytest.raises(HubError, match="not a backup's"):
        backup.restore(given, source, home)
    assert not home.exists()


def test_a_backup_that_fails_leaves_no_folder(city_file, tmp_path, monkeypatch):
    given, home = city.read(city_file), tmp_path / "home"
    with pytest.raises(HubError, match="back up on the desk"):
        backup.backup(given, home, tmp_path / "backup")
    (home / "secrets").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HubError, match="apt-get install postgresql-client"):
        backup.backup(given, home, tmp_path / "backup")
    (tmp_path / "pg_dump").write_text(f"#!{sys.executable}\nimport sys; sys.exit('pg_dump: no such server')\n", "utf-8")
    (tmp_path / "pg_dump").chmod(0o755)
    with pytest.raises(HubError, match="pg_dump: no such server"):
        backup.backup(given, home, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def command(monkeypatch, capsys, *arguments):
    """Exit code and output of the command."""
    monkeypatch.setattr("sys.argv", ["production", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        app()
    return end.value.code, capsys.readouterr()
