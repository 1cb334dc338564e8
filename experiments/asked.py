"""What decides measured numbers, as a digest: what is stored is kept where it was asked in the same way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def digest(folders: Iterable[Path], about: object, files: str = "*.safetensors") -> str:
    """Of the weights in some folders, and of what else decides the numbers.

    Args:
        folders: of models.
        about: what else, as plain data.
        files: a pattern; by default of the weights alone, "*" of what stands beside them too.
    """
    found = hashlib.sha256(json.dumps(about, default=str).encode())
    for path in sorted(path for place in folders for path in place.rglob(files) if path.is_file()):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def answered(path: Path, asked: str) -> bool:
    """Whether a file is there, and holds what was asked in this way; one that does not say how it was asked, does not.

    Args:
        path: of the file.
        asked: the digest of what is asked now.
    """
    return path.exists() and written(path).get("asked") == asked


def written(path: Path) -> dict[str, Any]:
    """The content of a file that a command wrote.

    Raises:
        ValueError: it is damaged; says which.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); delete it, and it is made again") from None
