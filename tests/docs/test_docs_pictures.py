import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_picture_in_the_readme_is_what_its_script_draws() -> None:
    spec = importlib.util.spec_from_file_location("draw_way", DOCS / "draw_way.py")
    assert spec is not None and spec.loader is not None
    draw_way = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw_way)
    assert (DOCS / "way-of-one-reading.svg").read_text() == draw_way.draw()
