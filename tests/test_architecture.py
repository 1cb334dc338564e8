import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STORIES = sorted(path for path in (ROOT / "graphs").glob("*.py") if path.name != "__init__.py")


def test_the_layers_of_the_package_hold():
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_folder_with_code_is_a_package():
    # a folder without __init__.py is neither installed nor seen by the check of the layers
    folders = {path.parent for top in ("causalcf", "graphs") for path in (ROOT / top).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_a_causal_story_is_short_and_says_where_it_comes_from(path):
    source = path.read_text()
    assert len(source.splitlines()) <= 40
    assert len(ast.get_docstring(ast.parse(source)) or "") > 100
