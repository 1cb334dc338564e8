"""The documentation's code runs, and prints what stands under it.

`CAUSALCF_WRITE_DOCS=1 pytest tests/test_tutorials.py` writes what it prints, and the pictures, into the documents.
"""

import contextlib
import io
import math
import os
import re
import shutil
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
TUTORIALS = {
    "sequences.md": {"sequence.png": "sequences.png"},
    "representations.md": {"pendulum.png": "representations.png"},
    "explaining.md": {"explaining.png": "explaining.png"},
    "explanations-and-causes.md": {"faces.png": "explanations-and-causes.png"},
}
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", flags=re.DOTALL)
NUMBER = re.compile(r"-?\d+\.\d+")


def close(found, written):
    """The same words, and numbers within a tenth of each other."""
    numbers = [[float(x) for x in NUMBER.findall(text)] for text in (found, written)]
    words = [NUMBER.sub("#", text) for text in (found, written)]
    pairs = zip(*numbers, strict=False)
    return words[0] == words[1] and all(math.isclose(a, b, rel_tol=0.1, abs_tol=0.05) for a, b in pairs)


@pytest.mark.parametrize("name", TUTORIALS)
def test_every_block_prints_what_stands_under_it(name, tmp_path, monkeypatch):
    text = (DOCS / name).read_text()
    monkeypatch.chdir(tmp_path)
    names, wrong = {}, []

    def run(match):
        code, written = match[1], match[2] or ""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, name, "exec"), names)
        found = printed.getvalue()
        if not close(found, written):
            wrong.append((found, written))
        shown = f"\n```text\n{found}```\n" if found else ""
        return f"```python\n{code}```\n{shown}"

    again = BLOCK.sub(run, text)
    assert len(BLOCK.findall(text)) > 3
    for made in TUTORIALS[name]:
        assert (tmp_path / made).read_bytes().startswith(b"\x89PNG")
    if os.environ.get("CAUSALCF_WRITE_DOCS"):
        (DOCS / name).write_text(again)
        for made, kept in TUTORIALS[name].items():
            shutil.copy(tmp_path / made, DOCS / kept)
    else:
        assert wrong == []


def test_another_number_or_word_is_noticed():
    assert close("error 1.23, a\n", "error 1.30, a\n")
    assert not close("error 1.23\n", "error 1.80\n")
    assert not close("error 1.23\n", "mistake 1.23\n")
    assert not close("True True\n", "True False\n")
    assert not close("a 1.0 2.0\n", "a 1.0\n")
