"""`danlu list` shows every shelf, one shelf, one thing, and imports none of them."""

import subprocess
import sys

from danlu.cli import main
from danlu.core.registry import shelves


def test_all_shelves_and_their_things_are_shown(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    for name, shelf in shelves().items():
        assert name in shown and all(thing in shown for thing in shelf.names())
    assert {"samplers", "exporters", "metrics", "models", "stages"} <= set(shelves())


def test_one_shelf_has_a_line_for_each_thing(capsys):
    assert main(["list", "samplers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == shelves()["samplers"].names()
    assert all(len(line.split()) > 3 for line in lines)


def test_one_thing_shows_its_settings(capsys):
    assert main(["list", "samplers", "top_k"]) == 0
    shown = capsys.readouterr().out
    assert "k  <whole number, >= 1>  (default 50)" in shown and "How many tokens stay" in shown


def test_near_names_are_offered(capsys):
    assert main(["list", "sampler"]) == 2
    assert "samplers" in capsys.readouterr().err
    assert main(["list", "samplers", "top_q"]) == 2
    assert "top_p" in capsys.readouterr().err


def test_listing_loads_no_torch():
    lines = ["import sys", "from danlu.cli import main", "main(['list', 'models', 'qwen3'])", "print('torch' in sys.modules)"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
