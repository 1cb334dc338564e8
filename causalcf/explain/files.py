"""What explanations begin with, read from files: a classifier, and a folder of images. No pickle is ever opened."""

from __future__ import annotations

import os
import runpy
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from causalcf.data.photographs import ENDINGS, as_tensor, coloured, is_text, name_digest, read_pixels
from causalcf.networks.classifier import Regressor
from causalcf.pretrained import load_judge, predictor_names
from causalcf.training.predictors import load_predictor

ARCHIVES = (".pt", ".pt2", ".pth", ".ts", ".torchscript")
FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
PICKLE = """it is a pickle, as torch.save writes it, and no pickle is opened here: it may run any code. Write
  torch.jit.trace(model.eval(), images).save("classifier.pt")  or
  torch.export.save(torch.export.export(model.eval(), (images,), dynamic_shapes=({0: torch.export.Dim("batch")},)),
                    "classifier.pt2")
or name a function that makes the model and loads its weights, classifier.py:load"""


def read_classifier(name: str) -> Callable[[Tensor], Tensor]:
    """A classifier by the name of a predictor that ships, its folder, its archive, or the function that makes it.

    Args:
        name: a predictor that ships; the folder that `save_predictor` wrote; a file of TorchScript or `torch.export`,
            which is known by its content; or `file.py:function`, which is run and returns a module.

    Returns:
        Images in [0, 1] -> logits, in eval mode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no classifier; or it is a pickle, which is not opened.
    """
    if name in predictor_names():
        return _deciding(load_judge(name), name)
    source, _, function = name.rpartition(":")
    if source.endswith(".py"):
        return _made(Path(source), function)
    path = Path(name)
    if not path.exists():
        raise FileNotFoundError(
            f"classifier: there is no file or folder {path}; give one, file.py:function, or one of the predictors that "
            f"ship, {', '.join(predictor_names())}"
        )
    if path.is_dir():
        return _deciding(load_predictor(path), name)
    if path.suffix == ".py":
        raise ValueError(f"classifier: which function of {path} makes it? Write {path}:function")
    return _archive(path)


def _deciding(network: nn.Module, name: str) -> nn.Module:
    if isinstance(network, Regressor):
        raise ValueError(
            f"classifier: {name} reads a number, {network.reads or 'a continuous attribute'}; give classes"
        )
    return network.eval()


def _made(path: Path, function: str) -> Callable[[Tensor], Tensor]:
    """What a function of a Python file returns."""
    if not path.is_file():
        raise FileNotFoundError(f"classifier: there is no file {path}")
    try:
        with importable(path.parent):
            found: Any = runpy.run_path(str(path)).get(function)
            made = found() if callable(found) else None
    except Exception as error:
        raise ValueError(f"classifier: {path}:{function} does not run: {type(error).__name__}: {error}") from error
    if not callable(made):
        got = f"returns {type(made).__name__}" if callable(found) else "is not there"
        raise ValueError(f"classifier: {path}:{function} {got}; define def {function}(): return model")
    return made.eval() if isinstance(made, nn.Module) else cast("Callable[[Tensor], Tensor]", made)


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Have Python files import what lies beside them, as they do where Python itself runs them."""
    place = str(folder.resolve())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)


def _archive(path: Path) -> Callable[[Tensor], Tensor]:
    """A module in TorchScript or of torch.export."""
    names = set()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = {entry.partition("/")[2] for entry in archive.namelist()}
    elif path.suffix in ARCHIVES:
        raise ValueError(f"classifier: {path} is no archive of torch, or one cut short; if not, {PICKLE}")
    try:
        if "constants.pkl" in names:
            return torch.jit.load(path, map_location="cpu").eval()
        if "archive_format" in names and not any("_obj_" in Path(entry).name for entry in names):
            with _weights_only():
                return torch.export.load(path).module()
    except Exception as error:
        said = str(error).strip().partition("\n")[0]
        raise ValueError(f"classifier: {path} cannot be read: {said}; save it again") from error
    if any(entry.endswith(".pkl") or "_obj_" in Path(entry).name for entry in names):
        raise ValueError(f"classifier: {path} is not read: {PICKLE}")
    raise ValueError(
        f"classifier: {path} is neither TorchScript nor of torch.export, nor a folder of save_predictor; write "
        "file.py:function for a model made by code"
    )


@contextmanager
def _weights_only() -> Iterator[None]:
    """Have torch refuse, rather than unpickle, whatever in an archive is not a tensor."""
    before = os.environ.get(FORCE)
    os.environ[FORCE] = "1"
    try:
        yield
    finally:
        os.environ.pop(FORCE)
        if before is not None:
            os.environ[FORCE] = before


@dataclass(frozen=True)
class Album:
    """The images of a folder.

    Attributes:
        images: in [0, 1], in the order of their names.
        ids: digests of their names, which decide their noise.
        names: of the files, without ending.
    """

    images: Float[Tensor, "batch channel height width"]
    ids: Int[Tensor, " batch"]
    names: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Tensor) -> Album:
        """Some of them."""
        return Album(self.images[index], self.ids[index], [self.names[row] for row in index.tolist()])


def read_images(folder: str | Path, rows: int | None = None, channels: int | None = None, white: int = 65535) -> Album:
    """The PNG and JPEG files of a folder, in the order of their names.

    Args:
        folder: of the files; others in it are left alone, and so are folders.
        rows: how many, from the first on; by default all.
        channels: 1 or 3; by default 1 if no image has colours.
        white: grey level that is white in images of 16 bits.

    Raises:
        FileNotFoundError: there is no such folder, or no image in it.
        ValueError: an image cannot be read, has another size than the first, colours where grey is wanted, or
            transparent places; two would have the same name, or one has a name that is no text.
    """
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"images: there is no folder {path}")
    if rows is not None and rows < 1:
        raise ValueError(f"images: expected at least one row, got {rows}")
    if channels not in (None, 1, 3):
        raise ValueError(f"images: expected 1 or 3 channels, got {channels}")
    inside = sorted(entry for entry in path.iterdir() if entry.is_file())
    files = [entry for entry in inside if entry.suffix.lower() in ENDINGS][:rows]
    if not files:
        others = f"it has {', '.join(entry.name for entry in inside[:3])}" if inside else "it is empty"
        raise FileNotFoundError(f"images: there is no PNG or JPEG file in {path}; {others}")
    names: dict[str, Path] = {}
    for file in files:
        if not is_text(file.name):
            raise ValueError(f"images: the name of {file.name!r} is not in the encoding of this machine; rename it")
        if file.stem in names:
            raise ValueError(f"images: {names[file.stem].name} and {file.name} differ by their ending only; rename one")
        names[file.stem] = file
    arrays = [read_pixels(file, white=white) for file in files]
    for file, array in zip(files, arrays, strict=True):
        if array.shape[:2] != arrays[0].shape[:2]:
            high, wide, *_ = array.shape
            raise ValueError(
                f"images: {file.name} is {wide} wide and {high} high, {files[0].name} is {arrays[0].shape[1]} and "
                f"{arrays[0].shape[0]}; bring all to one size"
            )
    colours = [coloured(array) for array in arrays]
    channels = channels or (3 if any(colours) else 1)
    if channels == 1 and any(colours):
        raise ValueError(
            f"images: {files[colours.index(True)].name} has colours, and classifier or generator is to have grey "
            "images; choose another, or make them grey"
        )
    images = torch.stack([as_tensor(array, channels) for array in arrays])
    return Album(images, torch.tensor([name_digest(file.name) for file in files]), list(names))
