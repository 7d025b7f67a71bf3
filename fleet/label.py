"""The label on a unit's lid: PNG, black on white, a QR code for machines and three lines for people.

The code says `CRUISERS:<unique id>:<truck>:<version>:<first 8 digits of the passport's SHA-256>`, in capitals: a QR code packs those
tightest. At 300 dots an inch it is about 50 by 20 mm; any label printer takes it."""

import hashlib
import io
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import segno

_DOT = 8  # pixels a module of the code; 0.7 mm at 300 dots an inch
_BORDER = 4  # modules: the quiet zone that ISO/IEC 18004 asks for
_TEXT_WIDTH = 420  # pixels
_LINE = 62
_INK = 0


def code(unit: str, truck: str, version: str, passport: Path) -> str:
    """What the QR code says. OSError if the passport cannot be read."""
    proof = hashlib.sha256(passport.read_bytes()).hexdigest()[:8]
    return f"CRUISERS:{unit}:{truck}:{version}:{proof}".upper()


def png(unit: str, truck: str, version: str, passport: Path) -> bytes:
    """The label as a PNG file."""
    out = io.BytesIO()
    segno.make(code(unit, truck, version, passport), error="m", micro=False).save(out, kind="png", scale=_DOT, border=_BORDER)
    picture = cv2.imdecode(np.frombuffer(out.getvalue(), dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    height = picture.shape[0]
    text: npt.NDArray[np.uint8] = np.full((height, _TEXT_WIDTH), 255, dtype=np.uint8)
    rows = ((truck, 1.5, 3), (f"v{version}", 1.1, 2), (unit[:8], 1.1, 2), (unit[8:], 1.1, 2))
    top = (height - _LINE * len(rows)) // 2 + 44
    for index, (words, size, stroke) in enumerate(rows):
        room = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, size, stroke)[0][0]
        fitted = size * min(1.0, (_TEXT_WIDTH - 16) / max(room, 1))
        cv2.putText(text, words, (0, top + index * _LINE), cv2.FONT_HERSHEY_SIMPLEX, fitted, (_INK,), stroke, cv2.LINE_AA)
    done, label = cv2.imencode(".png", np.hstack([picture, text]))
    assert done
    return label.tobytes()
