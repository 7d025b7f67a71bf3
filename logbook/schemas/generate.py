"""Writes cruisers_pb2.py and cruisers_pb2.pyi from cruisers.proto: `python -m logbook.schemas.generate [FOLDER]`.

The generated files are committed, so that a truck needs no compiler; a test compares them with what this writes."""

import sys
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).parent


def generate(folder: Path) -> None:
    """Writes both files into `folder`; raises RuntimeError if protoc fails (its message is on stderr)."""
    arguments = ["protoc", f"--proto_path={HERE}", f"--python_out={folder}", f"--pyi_out={folder}", str(HERE / "cruisers.proto")]
    code = protoc.main(arguments)
    if code:
        raise RuntimeError(f"protoc ended with {code}")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
