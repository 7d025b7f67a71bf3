"""Ctrl-C ends a live page in order, however often it comes and until the process is gone."""

import signal
import subprocess
import sys

from gateway.ending import Ending

PAGE = """
import os, signal, time
from gateway.ending import Ending
with Ending() as ending:
    print("shown", flush=True)
    while not ending.wished:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
    print("still printing", flush=True)
os.kill(os.getpid(), signal.SIGINT)
os.kill(os.getpid(), signal.SIGTERM)
print("last words", flush=True)
"""


def test_a_second_and_a_third_signal_change_neither_the_last_words_nor_the_exit_code() -> None:
    with subprocess.Popen([sys.executable, "-c", PAGE], stdout=subprocess.PIPE, text=True) as page:
        assert page.stdout is not None and page.stdout.readline() == "shown\n"
        page.send_signal(signal.SIGINT)
        assert page.communicate(timeout=60)[0].splitlines() == ["still printing", "last words"]
    assert page.returncode == 0


def test_without_a_signal_they_are_left_as_they_were() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Ending() as ending:
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before and not ending.wished
