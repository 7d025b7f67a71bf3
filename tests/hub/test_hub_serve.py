"""The command `python -m hub serve`: what it leaves, what it refuses, and who may run it."""

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from demo_runs import listening

from hub.__main__ import main
from hub.ejabberd import find_libraries
from hub.errors import HubError
from sox.client import SoxError

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(120)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def below(root: int) -> set[int]:
    found, new = set(), {root}
    while new:
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and (entry / "stat").exists():
                parents[int(entry.name)] = int((entry / "stat").read_text("utf-8").rpartition(")")[2].split()[1])
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return found


def listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def log_in(hub, user: str, password: str | None = None) -> str:
    async def main() -> str:
        client = hub.client(user, password)
        try:
            await client.connect()
        except SoxError as error:
            return error.condition
        await client.disconnect()
        return "in"

    return asyncio.run(main())


def command(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hub", "serve", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr of a command that could not start."""
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_the_ready_file_says_where_everything_is(hub):
    info = hub.info
    assert info["domain"] == "cruisers.test" and info["host"] == "127.0.0.1"
    assert listens(info["host"], info["c2s_port"]) and listens(info["host"], info["http_port"])
    assert info["pid"] == hub.process.pid and alive(info["ejabberd_pid"])
    assert Path(info["ca_file"]).is_file()
    assert sorted(path.name for path in Path(info["secrets"]).iterdir()) == ["admin", "center", "truck-1", "truck-2", "truck-3", "truck-4"]


def test_secrets_and_keys_are_for_the_owner_alone(hub):
    files = [*Path(hub.info["secrets"]).iterdir(), *hub.home.joinpath("tls").glob("*-key.pem")]
    assert len(files) == 8
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    passwords = {file.read_text("ascii") for file in Path(hub.info["secrets"]).iterdir()}
    assert len(passwords) == 6 and all(len(password) >= 43 for password in passwords)


def test_no_password_stands_on_a_command_line_in_the_environment_or_in_a_log(hub):
    passwords = [file.read_bytes() for file in Path(hub.info["secrets"]).iterdir()]
    log_in(hub, "truck-1")
    places = [Path(f"/proc/{hub.info['ejabberd_pid']}/{name}") for name in ("cmdline", "environ")]
    places += [*hub.home.joinpath("log").iterdir(), hub.home / "ejabberd.yml"]
    for place in places:
        content = place.read_bytes()
        assert not any(password in content for password in passwords), place


def test_ejabberd_listens_on_loopback_only_and_on_no_other_port(hub):
    ours = sorted(listening(hub.info["ejabberd_pid"]))
    assert ours == sorted(("127.0.0.1", hub.info[port]) for port in ("c2s_port", "http_port"))


def test_accounts_log_in_with_their_own_password_only(hub):
    assert log_in(hub, "truck-1") == "in"
    assert log_in(hub, "truck-1", "wrong") == "not-authorized"
    assert log_in(hub, "truck-1", (Path(hub.info["secrets"]) / "truck-2").read_text("ascii")) == "not-authorized"
    assert log_in(hub, "nobody-here", "x") == "not-authorized"


def offered(hub, secure: bool) -> str:
    """The stream features before or after STARTTLS, spoken by hand."""
    info = hub.info
    header = f"<stream:stream to='{info['domain']}' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
    context = ssl.create_default_context(cafile=info["ca_file"])

    def features(connection: socket.socket) -> str:
        connection.sendall(header.encode())
        text = ""
        while "</stream:features>" not in text:
            text += connection.recv(65536).decode()
        return text

    with socket.create_connection((info["host"], info["c2s_port"]), 10) as plain:
        text = features(plain)
        if not secure:
            return text
        plain.sendall(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        assert b"proceed" in plain.recv(65536)
        with context.wrap_socket(plain, server_hostname=info["domain"]) as wrapped:
            assert wrapped.version() in ("TLSv1.2", "TLSv1.3")
            return features(wrapped)


def test_before_tls_nothing_but_tls_is_offered_and_after_it_only_scram_sha_256(hub):
    assert "<required/>" in offered(hub, secure=False) and "mechanism" not in offered(hub, secure=False)
    text = offered(hub, secure=True)
    mechanisms = {part.partition("<")[0] for part in text.split("<mechanism>")[1:]}
    assert mechanisms and mechanisms <= {"SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"}
    assert "register" not in text


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_tls_older_than_1_2_is_refused(hub):
    context = ssl.create_default_context(cafile=hub.info["ca_file"])
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection((hub.info["host"], hub.info["http_port"]), 10) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")


def test_after_sigterm_no_process_no_port_and_no_ready_file_is_left_and_the_home_serves_again(start_hub, tmp_path):
    first = start_hub(tmp_path, "--trucks", "truck-1,truck-8").wait_ready()
    processes = below(first.process.pid)
    assert first.info["ejabberd_pid"] in processes and len(processes) > 3
    assert first.stop() == 0
    assert not [pid for pid in processes if alive(pid)]
    assert not listens("127.0.0.1", first.info["c2s_port"]) and not listens("127.0.0.1", first.info["http_port"])
    assert not first.ready.exists()
    ca = Path(first.info["ca_file"]).read_bytes()
    secret = (Path(first.info["secrets"]) / "truck-1").read_bytes()

    retired = Path(first.info["secrets"]) / "truck-8"
    password = retired.read_text("ascii")
    retired.unlink()

    second = start_hub(tmp_path, "--trucks", "truck-1,truck-9").wait_ready()
    assert Path(second.info["ca_file"]).read_bytes() == ca
    assert (Path(second.info["secrets"]) / "truck-1").read_bytes() == secret
    assert log_in(second, "truck-1") == log_in(second, "truck-9") == "in"
    assert log_in(second, "truck-8", password) == "not-authorized", "an account without a secret is gone"
    assert second.stop(signal.SIGINT) == 0


def test_ejabberd_ends_with_the_hub_even_when_that_is_killed(start_hub, tmp_path):
    running = start_hub(tmp_path).wait_ready()
    processes = below(running.process.pid)
    running.process.kill()
    running.process.wait()
    until = time.monotonic() + 30
    while (left := [pid for pid in processes if alive(pid)]) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left


def test_the_hub_says_so_and_ends_when_ejabberd_dies(start_hub, tmp_path):
    running = start_hub(tmp_path).wait_ready()
    os.kill(running.info["ejabberd_pid"], signal.SIGKILL)
    assert running.process.wait(30) == 1
    lines = running.process.stderr.read().splitlines()
    assert len(lines) == 1 and "ejabberd ended by itself" in lines[0]
    assert not running.ready.exists()


def test_a_second_hub_beside_the_first_has_its_own_chosen_or_free_ports_but_not_the_same_home(hub, start_hub, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    second = start_hub(tmp_path, "--trucks", "truck-1", "--c2s-port", str(port)).wait_ready()
    assert second.info["c2s_port"] == port
    ports = [info[port] for info in (hub.info, second.info) for port in ("c2s_port", "http_port")]
    assert len(set(ports)) == 4
    assert log_in(hub, "truck-1", (Path(second.info["secrets"]) / "truck-1").read_text("ascii")) == "not-authorized"
    line = refusal(command("--home", str(hub.home), "--ready", str(tmp_path / "other.json")))
    assert "another hub runs" in line and log_in(hub, "truck-1") == "in"


@pytest.mark.parametrize("option", ["--c2s-port", "--http-port"])
def test_a_taken_port_is_named_in_one_line_and_nothing_is_left(needs_ejabberd, tmp_path, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refusal(command("--home", str(tmp_path / "hub"), "--ready", str(tmp_path / "hub.json"), option, str(port)))
    assert f"port {port}" in line
    assert list(tmp_path.iterdir()) == []


def test_without_ejabberd_one_line_says_how_to_install_it(tmp_path):
    line = refusal(command("--home", str(tmp_path / "hub"), "--ready", str(tmp_path / "hub.json"), env={"PATH": str(tmp_path)}))
    assert "apt-get install ejabberd" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("arguments", "said"), [
    (["--trucks", "Truck_1"], "'Truck_1'"),
    (["--trucks", "truck-1,,truck-2"], "truck name ''"),
    (["--trucks", "center"], "'center'"),
    (["--trucks", "a,b,a"], "twice"),
    (["--domain", "no_domain"], "'no_domain'"),
    (["--host", "localhost"], "'localhost'"),
    (["--c2s-port", "0"], "'0' is not a port"),
    (["--c2s-port", "70000"], "'70000' is not a port"),
    (["--ready", "/nonexistent/hub.json"], "/nonexistent/hub.json"),
    (["--home", "/proc/hub"], "/proc/hub"),
    (["--home", "/dev/null"], "/dev/null"),
    (["--nonsense"], "--nonsense"),
])  # fmt: skip
def test_bad_arguments_are_refused_in_one_line_before_anything_is_made(needs_ejabberd, tmp_path, capsys, arguments, said):
    try:
        code = main(["serve", "--home", str(tmp_path / "hub"), "--ready", str(tmp_path / "hub.json"), *arguments])
    except SystemExit as end:  # argparse
        code = end.code
    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    assert len(printed.err.splitlines()) == 1 and said in printed.err
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_cannot_be_used_is_told_in_one_line(needs_ejabberd, tmp_path, capsys):
    (tmp_path / "secrets").write_text("in the way", "ascii")
    assert main(["serve", "--home", str(tmp_path), "--ready", str(tmp_path / "hub.json")]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1 and str(tmp_path / "secrets") in printed.err


def test_erlang_without_ejabberd_is_not_enough(needs_ejabberd, tmp_path):
    with pytest.raises(HubError, match="apt-get install ejabberd"):
        find_libraries([tmp_path])


def test_an_ordinary_user_runs_it_too(needs_ejabberd, start_hub, tmp_path_factory):
    if os.getuid() != 0:
        pytest.skip("not root: every other test here runs as an ordinary user")
    # The interpreter of the virtual environment may lie in root's home; then Debian's own of the same version stands in.
    interpreter = next((path for path in (sys.executable, shutil.which("python3", path="/usr/bin")) if path and runs_as_nobody(path)), None)
    if interpreter is None:
        pytest.skip("the user nobody can run no Python that has our dependencies")
    folder = Path("/tmp") / f"hub-nobody-{os.getpid()}"  # pytest's own folders are closed to others
    folder.mkdir()
    shutil.chown(folder, "nobody", "nogroup")
    try:
        running = start_hub(folder, "--trucks", "truck-1", command=(*AS_NOBODY, interpreter), env=SITE).wait_ready()
        assert Path(f"/proc/{running.info['ejabberd_pid']}").stat().st_uid == folder.stat().st_uid != 0
        assert log_in(running, "truck-1") == "in"
        processes = below(running.process.pid)
        os.kill(running.info["pid"], signal.SIGTERM)  # runuser's child: the hub itself
        assert running.process.wait(30) == 0
        assert not [pid for pid in processes if alive(pid)]
    finally:
        shutil.rmtree(folder)


AS_NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
SITE = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path.endswith("site-packages")), "PYTHONDONTWRITEBYTECODE": "1"}


def runs_as_nobody(interpreter: str) -> bool:
    probe = f"import sys, slixmpp, cryptography.x509; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    try:
        done = subprocess.run([*AS_NOBODY, interpreter, "-c", probe], cwd="/", env={**os.environ, **SITE}, capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def test_the_ready_file_is_json_of_texts_and_numbers(hub):
    assert json.loads(hub.ready.read_text("utf-8")).keys() == {
        "domain", "host", "c2s_port", "http_port", "ca_file", "secrets", "pid", "ejabberd_pid",
    }  # fmt: skip
