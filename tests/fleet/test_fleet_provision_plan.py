"""The fleet's list: what is wrong with it is said with its line, all of it, before anything else happens."""

from pathlib import Path

import pytest

from fleet.provision_plan import BadPlan, Camera, plan, read_fleet


def listed(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "fleet.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_a_truck_alone_has_head_receiver_and_no_camera():
    truck = plan({"truck": "truck-001"})
    assert (truck.truck, truck.head, truck.gps, truck.pps, truck.cameras, truck.carsensor) == ("truck-001", True, "usb", False, (), None)


def test_a_list_as_a_spreadsheet_writes_it_is_read(tmp_path):
    text = 'truck,cameras,carsensor,pps\r\ntruck-001,front,7,yes\r\n,,,\r\n\r\n"truck-002",front@1-1.2  rear=http://192.0.2.7/x,,\r\n'
    first, second = read_fleet(listed(tmp_path, text, "utf-8-sig"))
    assert (first.cameras, first.carsensor, first.pps) == ((Camera("front"),), 7, True)
    assert second.cameras == (Camera("front", "1-1.2"), Camera("rear", "", "http://192.0.2.7/x")) and not second.pps
    assert second.where == f"{tmp_path / 'fleet.csv'}:5"


def test_every_bad_line_is_told_with_its_number(tmp_path):
    path = listed(tmp_path, """truck,carsensor,cameras,head,gps,pps,inputs
truck-001,1,front,usb,usb,yes,lid bookmark
Truck_2,x,front rear,i2c,com3,maybe,horn
truck-003,1000,front@1-1.2 rear@1-1.2 front@1-1.3,,,,lid lid
truck-004,,a=file b,usb
truck-005,,a@1-1 b@1-2 c@1-3 d@1-4 e@1-5,,none,yes,
reader-map,1,,,,,
truck-001,,,,,,
,,front,,,,
""")  # fmt: skip
    with pytest.raises(BadPlan) as refused:
        read_fleet(path)
    said = [line.removeprefix(f"{path}:") for line in refused.value.lines]
    for line, words in [
        ("3", "truck name 'Truck_2'"), ("3", "carsensor 'x'"), ("3", "camera front: with 2"), ("3", "head 'i2c'"), ("3", "gps 'com3'"),
        ("3", "pps 'maybe'"), ("3", "input 'horn'"), ("4", "stands twice: lid lid"), ("4", "carsensor '1000'"),
        ("4", "one name: front"), ("4", "one place: 1-1.2"), ("5", "4 cells"), ("6", "5 cameras"), ("6", "pps without gps"),
        ("7", "readers begin"), ("8", "truck-001 stands in line 2"), ("9", "no truck"),
    ]:  # fmt: skip
        assert any(one.startswith(f"{line}: ") and words in one for one in said), (line, words, said)
    assert len(said) == 17


@pytest.mark.parametrize(("text", "said"), [
    ("", "empty"),
    ("truck\n", "no trucks"),
    ("truck,wheels\nt,4\n", "no column 'wheels'"),
    ("cameras\nfront\n", "the column truck is needed"),
    ("truck,truck\nt,t\n", "each column once"),
    ('truck\n"t\n', "no CSV file"),
    ("truck,carsensor\na,1\nb,1\n", "carsensor 1 stands in line 2"),
])  # fmt: skip
def test_a_list_that_is_none_is_refused(tmp_path, text, said):
    with pytest.raises(BadPlan, match=said):
        read_fleet(listed(tmp_path, text))


def test_a_list_in_another_encoding_is_refused_in_words(tmp_path):
    with pytest.raises(BadPlan, match="no CSV file in UTF-8"):
        read_fleet(listed(tmp_path, "truck,cameras\nトラック,\n", "shift_jis"))
