from pathlib import Path

from gateway_recording import Bench

from gateway.journal import Entry, event
from logbook.channels import EVENT, GAP
from logbook.schemas import cruisers_pb2 as pb


def test_an_observer_hears_each_message_of_its_topic_and_no_other(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    heard: list[Entry] = []
    bench.journal.observe(EVENT, heard.append)
    bench.journal.write([event("bookmark", "button", "", 7), Entry(GAP, 8, pb.Gap(source="gnss").SerializeToString())])
    bench.close()
    assert [entry.log_time for entry in heard] == [7]
