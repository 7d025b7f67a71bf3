"""The vectors of the six chips, on CPython and on MicroPython; and where each of the 141 checks of facts/driver_vectors.py stands."""

from collections.abc import Callable
from pathlib import Path

import both_interpreters as both

HERE = Path(__file__).parent

# What the facts compute: how many checks, the file that holds them (all `_on_both.py` run on both interpreters), and the check in it.
# Tolerances are the facts' or narrower; the BMP390's 0.02 Pa on both (the facts allow 0.05 and, for 32-bit floats, 0.1).
# Not here: the LTR-390 (2 checks), for which there is no driver; Barkjohn, Köhler growth and altitude (9), which are calibration's (another
# issue).
WHERE = (
    ("CRC-8 of words", 12, "particle_vectors_on_both.py", "check_crc8_of_sensirion_words"),
    ("a float and the cleaning interval", 2, "particle_vectors_on_both.py", "check_sps30_ten_floats"),
    ("SHDLC requests", 15, "particle_vectors_on_both.py", "check_sps30_requests_are_the_vendor_frames"),
    ("SHDLC replies", 3, "particle_vectors_on_both.py", "check_sps30_replies_are_understood"),
    ("SHDLC frame builder", 2, "particle_vectors_on_both.py", "check_sensirion_frame_builder_vectors"),
    ("SPS30, ten floats", 1, "particle_vectors_on_both.py", "check_sps30_ten_floats"),
    ("PMS5003, a real frame", 3, "particle_vectors_on_both.py", "check_pms_real_frames"),
    ("PMS5003 commands", 5, "particle_vectors_on_both.py", "check_pms_commands"),
    ("SHT4x replies", 23, "vectors_on_both.py", "check_sht4x_replies"),
    ("OPT3001 results", 10, "vectors_on_both.py", "check_opt3001_results"),
    ("VEML7700 polynomial", 1, "slow_vectors_on_both.py", "check_veml7700_below_1000_lx_is_linear_and_above_by_the_polynomial"),
    ("AS7331 irradiance", 6, "vectors_on_both.py", "check_as7331_irradiance"),
    ("AS7331 temperature", 2, "vectors_on_both.py", "check_as7331_temperature_and_reasons"),
    ("BMP390, Bosch's code in both modes", 18, "vectors_on_both.py", "check_bmp390_rows_of_boschs_code"),
    ("ICM-20948 acceleration", 1, "vectors_on_both.py", "check_icm20948_acceleration_in_every_range"),
    ("ICM-20948 angular rate", 2, "vectors_on_both.py", "check_icm20948_angular_rate_in_every_range"),
    ("ICM-20948 temperature", 1, "vectors_on_both.py", "check_icm20948_temperature_of_the_die"),
    ("AK09916", 1, "vectors_on_both.py", "check_icm20948_magnetic_field_in_the_frame_of_the_accelerometer"),
    ("ICM-20948 rates", 2, "vectors_on_both.py", "check_icm20948_rate_is_1125_over_one_plus_divider"),
    ("UBX frames", 9, "gnss_on_both.py", "check_published_frames_are_built"),
    ("NAV-PVT: frame, length, satellites", 6, "gnss_on_both.py", "check_published_frames_are_built"),
    ("NAV-PVT, a real place", 1, "gnss_on_both.py", "check_the_first_real_message"),
    ("NAV-PVT, another", 1, "gnss_on_both.py", "check_the_second_real_message"),
    ("NMEA checksums", 3, "../gateway/test_gateway_nmea.py", "test_the_published_checksums"),  # read on the gateway only
)
ELSEWHERE = 2 + 9


@both.each_check(__file__, "vectors_on_both.py")
def test_vector_on_both_interpreters(run: Callable[[], None]) -> None:
    run()


def test_every_vector_of_the_facts_has_its_place() -> None:
    assert sum(count for _, count, *_ in WHERE) + ELSEWHERE == 141
    for what, _, file, check in WHERE:
        assert f"\ndef {check}(" in (HERE / file).read_text(), what
