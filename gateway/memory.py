"""The C library's memory for a process that takes and frees megabytes of images a second.

glibc gives large blocks back to the kernel as soon as they are free and asks for new ones at the next image: for a 1080p one the kernel
clears 48 pages. Kept, they are used again: that was a fifth of the CPU of a frame on its way through (bench/camera.py). What is kept was in
use at one time, which the writer bounds (logbook/segment.py)."""

import ctypes

# mallopt(3): the parameters' numbers in malloc.h. A block above M_MMAP_THRESHOLD is given back at once; 32 MiB is the most glibc takes.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 64 * 1024 * 1024
LARGE_BYTES = 32 * 1024 * 1024


def keep_freed() -> bool:
    """Lets this process keep up to KEPT_BYTES of freed memory; False where the C library knows no such setting (musl): it works as well."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)) and bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES))
