"""What is wrong with a truck's configuration is said in one line, before anything is opened."""

from pathlib import Path

import pytest

from gateway.config import ConfigError, load
from gateway.recorder import main

HUB = '[hub]\ndomain = "d"\nhost = "h"\nport = {}\nca_file = "c"\npassword_file = "p"\n'


def written(folder: Path, more: str, hub_port: int = 5222) -> Path:
    path = folder / "truck.toml"
    path.write_text(f'name = "t"\nspool = "{folder}/spool"\nlive_socket = "{folder}/live"\n{HUB.format(hub_port)}{more}')
    return path


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('[head]\nport = "/dev/a"\n[box]\nport = "/dev/a"\n', "port of [head] and port of [box] are the same: /dev/a"),
        ('[box]\nport = "/dev/a"\n[gpsd]\ndevice = "/dev/a"\n', "port of [box] and device of [gpsd] are the same: /dev/a"),
        ('[box]\nport = "/dev/a"\n[receiver]\nport = "/dev/a"\n', "port of [box] and port of [receiver] are the same: /dev/a"),
        ('[gpsd]\n[receiver]\nport = "/dev/a"\n', "[gpsd] and [receiver] are two owners"),
        ('[box]\nport = ""\n', "length >= 1 - at `$.box.port`"),
        ("[box]\nfan = true\n", "port"),
        ('[box]\nport = "/dev/a"\nfan = 1\n', "fan"),
        ("[gpsd]\nport = 70000\n", "<= 65535 - at `$.gpsd.port`"),
        ('[receiver]\nport = "/dev/a"\nperiod_ms = 0\n', "period_ms of [receiver] is 0"),
        ("[shock]\nlow_hz = 30\nhigh_hz = 20\n", "low_hz < high_hz < 50, not 30 to 20 - at `$.shock`"),
        ("[shock]\nhigh_hz = 51\n", "not 1 to 51"),
        ("[tilt]\nangle = 5\n", ">= 10.0 - at `$.tilt.angle`"),
        ('[tilt]\nup = "up"\n', "at `$.tilt.up`"),
        ("[inputs]\ndevices = []\nbookmark = 148\n", "length >= 1 - at `$.inputs.devices`"),
        ('[inputs]\ndevices = ["/dev/a"]\n', "at least one of them: none"),
        ('[inputs]\ndevices = ["/dev/a"]\nbookmark = 148\nopened = 148\n', "need a key code each, or at least one of them: [148, 148]"),
        ('[[depots]]\nname = "a"\nlatitude = 1\nlongitude = 2\n' * 2, "two [[depots]] of one name: a, a"),
    ],
)
def test_it_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str, words: str) -> None:
    assert main([str(written(tmp_path, more))]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"recorder: {tmp_path}/truck.toml: ") and error.count("\n") == 1 and words in error
    assert not (tmp_path / "spool").exists()


def test_the_hubs_port_is_checked_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r">= 1 - at `\$.hub.port`"):
        load(written(tmp_path, "", 0))
    assert load(written(tmp_path, '[head]\nport = "/dev/a"\n[box]\nport = "/dev/b"\n[gpsd]\ndevice = "/dev/c"\n')).box
