"""Output for terminals that are not Unicode (EUC-JP, Shift JIS, a serial console): a character they lack becomes one they have."""

import codecs
import sys
import unicodedata
from io import TextIOWrapper

_NAME = "cruisers-plain"
_WORDS = {"°": "deg", "µ": "u", "…": "."}  # where not even the compatibility form (² → 2) will do


def install() -> None:
    """From now on nothing printed fails for its characters."""
    codecs.register_error(_NAME, plainer)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_NAME)


def plainer(error: UnicodeError) -> tuple[str | bytes, int]:
    """Error handler of codecs: what stands for the characters that could not be encoded, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_plain(character, error.encoding) for character in error.object[error.start : error.end]), error.end


def _plain(character: str, encoding: str) -> str:
    for text in (unicodedata.normalize("NFKC", character), _WORDS.get(character, "")):
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            continue
        if text:
            return text
    return "?"
