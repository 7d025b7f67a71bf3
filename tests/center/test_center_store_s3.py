"""The archive in a bucket: the same promises as in a folder, against moto's S3 on loopback."""

import hashlib
import os
import shutil

import boto3
import pytest
from center_keeping import Drive, Said, keep
from moto.server import ThreadedMotoServer

from center.archive import Archive, ArchiveError
from center.config import ConfigError, load
from center.ingest_take import Taker
from center.query import Asking
from center.query_picture import picture
from center.store import StoreError
from center.store_s3 import S3Store
from center.tables import Tables
from sox.segments import STORED

pytestmark = pytest.mark.timeout(60)

CONFIG = """
archive = "s3://{bucket}/city"
state = "{state}"
trucks = ["truck-14"]
[hub]
domain = "h"
host = "127.0.0.1"
port = 1
ca_file = "a"
password_file = "b"
[s3]
endpoint = "{endpoint}"
key_file = "{keys}"
"""


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def config(endpoint, tmp_path, request):
    """A bucket of this test, and the configuration of an archive in it."""
    keys = tmp_path / "keys.toml"
    keys.write_text('access_key = "a"\nsecret_key = "b"\n')
    bucket = hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
    path = tmp_path / "center.toml"
    path.write_text(CONFIG.format(bucket=bucket, state=tmp_path / "state", endpoint=endpoint, keys=keys))
    client = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
    client.create_bucket(Bucket=bucket)
    return load(path)


@pytest.fixture
def archive(config):
    opened = Archive(config.store(), state=config.state_folder)
    yield opened
    opened.close()


def test_a_segment_of_16_mb_goes_in_parts_and_comes_back_bit_for_bit(archive, tmp_path):
    made = Drive(tmp_path / "spool").images(0, [os.urandom(2_000_000) for _ in range(8)])
    stored = keep(archive, made)
    assert stored.size > 16_000_000
    assert archive.known(stored.segment_id) == stored
    assert archive.data("truck-14", stored.segment_id) == made.path.read_bytes()
    with archive.file("truck-14", stored.segment_id) as path:
        assert path.read_bytes() == made.path.read_bytes()
    assert not path.exists()
    assert [found.segment_id for found in archive.objects.listed()] == [stored.segment_id]


async def test_what_comes_back_otherwise_than_it_went_is_not_stored(archive, tmp_path, monkeypatch):
    made = Drive(tmp_path / "spool").readings(0, 5)
    monkeypatch.setattr(S3Store, "read", lambda self, key: b"something else")

    async def fetch(url, part, size):
        shutil.copy(made.path, part)

    with pytest.raises(StoreError, match="not what was stored"):
        await Taker(archive, fetch, 0).take(made.announcement)
    assert archive.known(made.announcement.segment_id) is None
    monkeypatch.undo()
    assert (await Taker(archive, fetch, 0).take(made.announcement)).state == STORED
    assert archive.known(made.announcement.segment_id) is not None


def test_an_index_that_was_lost_is_made_anew_from_the_bucket(config, tmp_path):
    archive = Archive(config.store(), state=config.state_folder)
    stored = keep(archive, Drive(tmp_path / "spool").readings(0, 5))
    archive.close()
    shutil.rmtree(config.state_folder)
    again = Archive(config.store(), state=config.state_folder)
    assert (again.adopted, again.vanished) == (1, 0)
    assert again.known(stored.segment_id)[:11] == stored[:11]
    again.close()


def test_tables_questions_and_pictures_are_the_same_on_s3(archive, tmp_path):
    drive = Drive(tmp_path / "spool")
    keep(archive, drive.images(4.5, [b"one", b"two"]))
    tables = Tables(archive, held_s=0.0)
    assert tables.table(10) == 1
    keep(archive, drive.readings(0, 20, [Said(5, 1_793_000_005, 1e-6)]))
    while tables.table(10):
        pass
    asking = Asking(archive)
    assert asking.ask("SELECT count(*) FROM imu").rows == [(200,)]
    answer = asking.pm25("truck-14", "2026-10-26T00:00:00", "2026-10-27T00:00:00")
    assert sum(row[3] for row in answer.rows) == 20
    [row, _] = asking.ask("SELECT segment, camera, boottime_ns, latitude FROM images WHERE date = '2026-10-26' ORDER BY time").rows
    assert row[3] == 35.0
    assert picture(archive, *row[:3]) == b"one"
    asking.close()
    tables.tidy(0.0, 0)
    tables.rebuild()
    assert archive.objects.tables_there() == []


def test_what_is_wrong_with_the_bucket_or_its_settings_is_one_line(config, endpoint, tmp_path):
    with pytest.raises(ArchiveError, match="no bucket") as caught:
        Archive(S3Store("s3://nowhere/city", endpoint, "us-east-1", ("a", "b")), state=tmp_path / "other")
    assert "\n" not in str(caught.value)
    text = (tmp_path / "center.toml").read_text()
    wrong = [("state =", "# "), ('endpoint = "http', 'endpoint = "ftp'), ("keys.toml", "none.toml"), ("archive = ", 'archive = "s3://" # ')]
    for old, new in wrong:
        (tmp_path / "bad.toml").write_text(text.replace(old, new))
        with pytest.raises(ConfigError) as refused:
            load(tmp_path / "bad.toml").store()
        assert "\n" not in str(refused.value)


def test_a_service_that_is_away_is_no_answer_and_takes_nothing(config, tmp_path):
    made = Drive(tmp_path / "spool").readings(0, 5)
    with pytest.raises(OSError, match="127.0.0.1|connect"):
        S3Store("s3://bucket/city", "http://127.0.0.1:9", "us-east-1", ("a", "b")).put(made.path, "truck-14/x.mcap", "0" * 64)
    assert made.path.exists()
