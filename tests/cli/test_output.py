import json

import numpy as np

from t1_jax.cli.output import Output, print_error, visible
from t1_jax.errors import DataError


def test_words_go_to_stdout_or_make_room_for_json(capsys):
    for as_json in (False, True):
        out = Output(as_json)
        out.print("[bold]a :smile: word")
        out.log("progress")
        out.table(("name", "value>"), [("a", "[1]")])
        out.result(n=np.float32(0.5), words="ä")
        captured = capsys.readouterr()
        words = captured.err if as_json else captured.out
        assert "[bold]a :smile: word" in words
        assert "[1]" in words
        assert "progress" in captured.err
        if as_json:
            assert json.loads(captured.out) == {"n": 0.5, "words": "ä"}
        else:
            assert "ä" not in captured.out


def test_a_long_line_is_not_broken(capsys):
    Output(False).print("x" * 300)
    assert capsys.readouterr().out == "x" * 300 + "\n"


def test_texts_cannot_steer_the_terminal(capsys):
    assert visible("a\x1b[2Jb\tc\nd\x07\x7f") == "a␛[2Jb\tc\nd␇␡"
    Output(False).print("\x1b]0;title\x07")
    print_error(DataError("\x1b[31mred"), as_json=False)
    captured = capsys.readouterr()
    assert "\x1b]0" not in captured.out
    assert "\x1b[31m" not in captured.err
