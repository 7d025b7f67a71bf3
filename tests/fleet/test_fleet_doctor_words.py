"""The doctor's words: complete in both languages, and no sentence is missing or left over."""

import ast
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware.frames import STATES
from fleet import doctor
from fleet.doctor_finding import COLOURS, say
from fleet.doctor_words import LANGUAGES, WORDS, fields, language_of, text
from gateway.uplink_ways import CLASSES

FLEET = Path(doctor.__file__).parent
MAKERS = {"say": 0, "green": 0, "grey": 0, "yellow": 0, "red": 0, "make": 0}
FAMILIES = {
    *(f"check_{name}" for name in doctor.CHECKS), *(f"mark_{colour}" for colour in COLOURS), *(f"sum_{colour}" for colour in COLOURS),
    *(f"state_{state}" for state in STATES), *(f"link_{link}" for link in CLASSES["any"]),
}  # fmt: skip


def sources() -> Iterator[ast.Module]:
    for path in sorted(FLEET.glob("doctor*.py")):
        if path.name != "doctor_words.py":
            yield ast.parse(path.read_text("utf-8"))


def calls() -> Iterator[ast.Call]:
    """The calls that make a sentence of a literal key."""
    for source in sources():
        for node in ast.walk(source):
            if isinstance(node, ast.Call) and (isinstance(node.func, ast.Name | ast.IfExp)) and node.args:
                named = isinstance(node.func, ast.IfExp) or node.func.id in MAKERS
                if named and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                    yield node


def test_every_sentence_is_there_in_both_languages_with_the_same_values() -> None:
    for key, sentences in WORDS.items():
        assert len(sentences) == len(LANGUAGES) and all(sentence.strip() for sentence in sentences), key
        assert fields(sentences[0]) == fields(sentences[1]), key
        assert not any("\n" in sentence for sentence in sentences), key  # what to do is one line
        specs = [sorted((name, spec) for _, name, spec, _ in string.Formatter().parse(sentence) if name) for sentence in sentences]
        assert specs[0] == specs[1], key


def test_japanese_is_japanese_where_there_is_anything_to_say() -> None:
    for key, (_, japanese) in WORDS.items():
        words = "".join(part for part, *_ in string.Formatter().parse(japanese)).strip(" :().;,")
        if words not in ("", "GNSS", "×"):
            assert any(ord(character) > 0x2000 for character in japanese), key


def test_every_sentence_that_a_check_says_is_in_the_table_and_none_is_left_over() -> None:
    constants = {node.value for source in sources() for node in ast.walk(source) if isinstance(node, ast.Constant)}
    used = {call.args[0].value for call in calls()}  # type: ignore[attr-defined]
    assert used <= WORDS.keys(), used - WORDS.keys()
    assert WORDS.keys() >= FAMILIES, FAMILIES - WORDS.keys()
    assert not WORDS.keys() - constants - FAMILIES, WORDS.keys() - constants - FAMILIES


def test_a_sentence_is_given_every_value_that_stands_in_it() -> None:
    for call in calls():
        if any(keyword.arg is None for keyword in call.keywords):
            continue  # a dictionary: seen when the check runs
        key = call.args[0].value  # type: ignore[attr-defined]
        assert fields(WORDS[key][0]) <= {keyword.arg for keyword in call.keywords}, key


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "ja_JP.UTF-8"}, "ja"),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "ja_JP.eucJP"}, "ja"),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": ""}, "en"),
    ],
)
def test_the_language_is_that_of_the_environment(environment: dict[str, str], language: str) -> None:
    assert language_of(environment) == language


def test_a_reason_stands_behind_a_colon_or_not_at_all() -> None:
    well = say("sensor_state", name="sps30", state=say("state_failed"), reason="time-out")
    assert text(well, "en") == "sps30: failed: time-out"
    assert text(well._replace(values=well.values | {"reason": ""}), "ja") == "sps30: 故障"
    assert text(say("state_of_a_newer_program"), "en") == "state_of_a_newer_program"
