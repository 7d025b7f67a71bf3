"""Why the disk refuses, in words, for those who must say what was lost by it. The writers' threads tell, sources ask."""

from gateway.clock import boottime_ns

NANO = 1_000_000_000
FRESH_SECONDS = 60.0  # the writer tries every 5 s and tells each failure: what was told before is another trouble's


class DiskTrouble:
    """The newest error of a writer. Any thread."""

    def __init__(self) -> None:
        self._told: tuple[int, str] | None = None

    def told(self, error: OSError) -> None:
        """The disk refused with `error`."""
        self._told = (boottime_ns(), error.strerror or str(error))

    def reason(self) -> str:
        """For a Gap: "disk refused: No space left on device"; a disk that only does not answer has no error."""
        told = self._told
        fresh = told is not None and boottime_ns() - told[0] < FRESH_SECONDS * NANO
        return f"disk refused: {told[1] if told is not None and fresh else 'no answer'}"
