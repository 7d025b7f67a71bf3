import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMAGES = """
import resource
from gateway.memory import keep_freed
assert keep_freed(), "the C library is not glibc"
def images():
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        waiting = [bytearray(200_000) for _ in range(20)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
images()
print(images())
"""


def test_memory_that_was_freed_is_used_again_without_new_pages_of_the_kernel():
    ran = subprocess.run([sys.executable, "-c", IMAGES], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    pages_of_one_round = 20 * 200_000 // resource.getpagesize()
    assert int(ran.stdout) < pages_of_one_round
