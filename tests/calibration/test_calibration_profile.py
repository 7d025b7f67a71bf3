import pytest

from calibration.profile import Line, Profile, ProfileError, applicable, apply

BAROMETER = Profile("e6614103e7", "bmp390", "bmp390-1", {"pressure": Line(scale=1.001, offset=-12.5)}, valid_from_utc_ns=100)


def test_without_a_profile_values_pass_and_nothing_is_called_corrected() -> None:
    calibrated = apply(None, {"pressure": 101_325.0, "temperature_barometer": "implausible"})
    assert calibrated.values == {"pressure": 101_325.0, "temperature_barometer": "implausible"}
    assert (calibrated.profile, calibrated.corrected) == ("", frozenset())


def test_a_line_is_applied_and_what_has_none_passes() -> None:
    calibrated = apply(BAROMETER, {"pressure": 100_000.0, "temperature_barometer": 290.0})
    assert calibrated.values == {"pressure": pytest.approx(100_087.5), "temperature_barometer": 290.0}
    assert (calibrated.profile, calibrated.corrected) == ("bmp390-1", frozenset({"pressure"}))


def test_a_reason_stays_a_reason() -> None:
    calibrated = apply(BAROMETER, {"pressure": "implausible"})
    assert calibrated.values == {"pressure": "implausible"} and calibrated.corrected == frozenset()


def test_the_profile_of_the_unit_the_sensor_and_the_time_holds() -> None:
    later = Profile("e6614103e7", "bmp390", "bmp390-2", {}, valid_from_utc_ns=200, valid_to_utc_ns=300)
    profiles = [later, BAROMETER, Profile("other", "bmp390", "theirs", {}), Profile("e6614103e7", "sht45", "humidity", {})]

    def holds(utc_ns: int, unit: str = "e6614103e7", sensor: str = "bmp390") -> str:
        profile = applicable(profiles, unit, sensor, utc_ns)
        return profile.id if profile else ""

    assert [holds(99), holds(100), holds(200), holds(299), holds(300)] == ["", "bmp390-1", "bmp390-2", "bmp390-2", "bmp390-1"]
    assert holds(0) == ""  # no clock: nobody knows whether it holds yet
    assert holds(0, unit="other") == "theirs"
    assert holds(150, sensor="opt3001") == ""


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"unit": ""}, "needs unit"),
        ({"lines": {"humidity": Line()}}, "does not measure 'humidity'"),
        ({"lines": {"preasure": Line()}}, "does not measure 'preasure'"),
        ({"lines": {"pressure": Line(scale=0.0)}}, "scale not 0"),
        ({"lines": {"pressure": Line(offset=float("nan"))}}, "finite"),
        ({"valid_from_utc_ns": 5, "valid_to_utc_ns": 5}, "not after"),
    ],
)
def test_what_cannot_be_a_profile_is_refused_with_why(fields: dict, why: str) -> None:
    good: dict = {"unit": "u", "sensor": "bmp390", "id": "p", "lines": {}}
    with pytest.raises(ProfileError, match=why):
        Profile(**{**good, **fields})
