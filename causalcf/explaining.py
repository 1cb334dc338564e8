"""The commands `causalcf explain`, from files to explanations, pictures and a report, and `causalcf distil`."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from causalcf import explain as library
from causalcf import plot
from causalcf.explain.files import read_classifier, read_images
from causalcf.explain.generators import Generator, from_diffusers, from_scm
from causalcf.explain.named import parameters, read_method
from causalcf.explain.queries import Query, decided
from causalcf.plot.sheet import pictures
from causalcf.pretrained import load_judge, predictor_names, pretrained_names
from causalcf.reading import read_device, read_model
from causalcf.storage import write_text
from causalcf.training import surrogates
from causalcf.training.predictors import load_predictor, save_predictor

DRAWN = 12  # images of the grid
PICTURES = "counterfactuals"  # folder of the images


def explain(
    *,
    images: Path,
    classifier: str,
    generator: str,
    method: str = "maskdime",
    target: int | None = None,
    label: int | None = None,
    option: list[str] | None = None,
    prompt: list[str] | None = None,
    parent: str | None = None,
    classes: str | None = None,
    reader: list[str] | None = None,
    null: str | None = None,
    surrogate: str | None = None,
    perceptual: str | None = None,
    out: Path = Path("explanation"),
    rows: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    device: str = "auto",
    white: int = 65535,
) -> None:
    """Explain a classifier by counterfactual images.

    Writes grid.png and report.html, pictures and numbers of each image; record.csv, a line per image;
    counterfactuals/, the images themselves; and the folder of an Explanation. Killed and started again with the same
    arguments, it goes on where it was. Images that are decided for the target already are left out, and named.

    Args:
        images: Folder of PNG or JPEG files of one size, the one that classifier and generator read.
        classifier: Images in [0, 1] to logits. A file of TorchScript or torch.export; "file.py:function", which is
            run and returns a module; a folder of save_predictor; or a predictor that ships. Pickles are not opened.
        generator: Name of a model that ships, such as morphodigits-spatial; the folder of a fitted one, with a
            SpatialDiffusion; or a local folder of a diffusers pipeline, with weights in safetensors.
        method: One of dime, fastdime, maskdime, ace, ldce, sce, scelitehq, agreed, told.
        target: Class to reach, a number. By default the other one of two.
        label: Of a classifier with many labels, which one to explain; it then has two classes.
        option: Of the method, such as "depth=30" or "scales=8,10"; give --option again for another.
        prompt: What a pipeline that reads text is told of a class; once for each class, in their order. LDCE, Agreed
            and Told need it.
        parent: What a model of ours is told of a class: which discrete parent of the image it is. LDCE, Agreed
            and Told need it.
        classes: Which of the generator's own classes those of the classifier are, in their order, such as 3,8: of the
            parent, or of a pipeline that knows classes by number. By default they are the same.
        reader: What a model of ours is told of another parent, whichever the class, "thickness=folder": what the
            predictor in the folder of save_predictor, or one that ships, reads on each image. Give --reader again for
            another parent; of what is not read it is told what the model draws under the class, on average.
        null: What says nothing to a pipeline: a prompt, by default the empty one, or the number of the class that was
            trained for it.
        surrogate: What gives the gradients instead of the classifier: the folder that `causalcf distil` wrote, or a
            file as for --classifier.
        perceptual: Of dime, fastdime and maskdime, images in [0, 1] to features that are kept near the factual ones: a
            file as for --classifier.
        out: Folder of all that is written, and of the work done so far; not that of the images.
        rows: How many images, in the order of their names; by default all.
        batch: Images at a time; by default what the method has. It may change from one start to the next.
        seed: Decides all noise, together with the files' names.
        device: Such as "cpu" or "cuda"; "auto" takes a GPU if there is one.
        white: Grey level that is white in images of 16 bits: 4095 where a scanner of 12 bits wrote them.
    """
    _refuse_folder(out, images)
    _refuse_folder(out / PICTURES, images)
    explainer = read_method(method, option or [], batch, seed, *(["perceptual"] if perceptual else []))
    place = read_device(device)
    decides = _placed("classifier", classifier, place)
    decides = decides if label is None else library.label(decides, label)
    networks = {"surrogate": surrogate, "perceptual": perceptual}
    networks = {name: _placed(name, file, place) for name, file in networks.items() if file}
    if surrogate and "surrogate" not in parameters(type(explainer)):
        decides = library.Led(decides, networks.pop("surrogate"))
    for name, network in networks.items():
        setattr(explainer, name, network)
    draws = read_generator(generator, place, prompt, parent, classes, null, reader)
    album = read_images(images, rows, draws.channels, white)
    queries = explainer.queries(decides, draws, album.images.to(place), target)
    held = torch.cat([query.predicted == query.target for query in queries]).cpu()
    if held.all():
        raise ValueError(
            f"--target: the classifier decides all {len(album)} images for {target} already; ask for another class"
        )
    if held.any():
        away = [album.names[row] for row in held.nonzero()[:, 0].tolist()]
        print(f"left out, decided for {target} already: {', '.join(away)}")
        album = album[(~held).nonzero()[:, 0]]
    data = {"image": album.images, "id": album.ids}
    found = library.explain_all(explainer, decides, draws, data, target, folder=out, progress=True)
    found.save(out, pictures=False)
    (out / PICTURES).mkdir(exist_ok=True)
    for name in _recorded(out / "record.csv") - set(album.names):  # of an earlier start, with more images
        (out / PICTURES / f"{name}.png").unlink(missing_ok=True)
    for name, values in zip(album.names, pictures(found.counterfactuals), strict=True):
        Image.fromarray((255 * values).round().astype("uint8")).save(out / PICTURES / f"{name}.png")
    plot.explanations(found, rows=DRAWN, names=album.names).savefig(out / "grid.png")
    write_text(out / "record.csv", library.record(found, album.names))
    write_text(out / "report.html", library.page(found, album.names, title=f"{classifier}, explained"))
    print(f"\n{found}")
    print(f"\nwrote {out / 'grid.png'}, {out / 'report.html'}, {out / 'record.csv'}, {out / PICTURES}")


def distil(
    *,
    images: Path,
    classifier: str,
    out: Path = Path("surrogate"),
    label: int | None = None,
    rows: int | None = None,
    channels: int | None = None,
    steps: int = 1500,
    batch: int = 64,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Teach a smooth surrogate to say what a classifier says.

    Its gradients show to the eye what those of the classifier do not. Writes a folder for `causalcf explain --method
    scelitehq --surrogate OUT`. No labels are read: any images of the kind that the classifier knows will do, the more
    the better.

    Args:
        images: Folder of PNG or JPEG files of one size, the one that the classifier reads.
        classifier: Images in [0, 1] to logits, as for `causalcf explain`.
        out: Folder of the surrogate; not that of the images.
        label: Of a classifier with many labels, which one the surrogate is to say.
        rows: How many images, in the order of their names; by default all.
        channels: Of the images that the classifier reads, 1 or 3; by default 1 if no image has colours.
        steps: Training steps.
        batch: Images of a step.
        seed: Decides initial weights, order of images and noise.
        overwrite: Whether a surrogate in OUT may be replaced.
    """
    _refuse_folder(out, images)
    if not overwrite and out.exists() and any(out.iterdir()):
        raise FileExistsError(f"--out: {out} holds files; choose a new folder, or add --overwrite true")
    decides = read_classifier(classifier)
    decides = decides if label is None else library.label(decides, label)
    album = read_images(images, rows, channels)
    try:
        Query(decides, album.images[:batch], 0)  # says what does not fit
    except ValueError as error:
        if channels is not None or album.images.shape[1] == 3 or not isinstance(error.__cause__, RuntimeError):
            raise
        raise ValueError(f"{error}; for a classifier of colours, which none of these has, add --channels 3") from error
    found = surrogates.distil(decides, {"image": album.images}, steps=steps, batch=batch, seed=seed)
    save_predictor(found, out)
    same = sum(int((decided(decides(part)) == decided(found(part))).sum()) for part in album.images.split(batch))
    print(f"decides as the classifier does for {same} of the {len(album)} images it learned from")
    print(f"\nwrote {out}, for causalcf explain --surrogate {out}")


def _refuse_folder(out: Path, images: Path) -> None:
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"--out: {out} is a file; give a folder")
    if out.resolve() == images.resolve():
        raise ValueError(f"--out: {out} is the folder of the images, which would be read again next time; give another")


def _recorded(path: Path) -> set[str]:
    """The names of the images in a record that was written before, if there is one."""
    if not path.is_file():
        return set()
    with path.open(newline="", encoding="utf-8") as lines:
        return {name for line in csv.DictReader(lines) if (name := line.get("name"))}


def _placed(option: str, name: str, device: torch.device) -> Any:
    """A network by the name of its file, on a device."""
    try:
        found = read_classifier(name)
    except (OSError, ValueError) as error:
        raise type(error)(f"--{option}: {error}") from error
    return found.to(device) if isinstance(found, nn.Module) else found


def read_generator(
    name: str,
    device: torch.device,
    prompts: Sequence[str] | None = None,
    parent: str | None = None,
    classes: str | None = None,
    null: str | None = None,
    readers: Sequence[str] | None = None,
) -> Generator:
    """A generator by the name of a model that ships, or a folder."""
    own = _numbers(classes)
    path = Path(name)
    if name not in pretrained_names() and (path / "model_index.json").is_file():
        if parent is not None:
            raise ValueError(f"--parent: {path} is a pipeline of diffusers, which has none; write --prompt")
        if readers:
            raise ValueError(f"--reader: {path} is a pipeline of diffusers, which has no parents to read; leave it out")
        number = int(null) if null and null.isdigit() else null
        return from_diffusers(_read_pipeline(path).to(device), prompts, own, number)
    if prompts:
        raise ValueError(f"--prompt: {name} is a model of causalcf, which reads no text; write --parent")
    if null is not None:
        raise ValueError(f"--null: {name} is a model of causalcf, which has its own; leave it out")
    scm = read_model(name)
    images = scm.graph.images
    if len(images) != 1:
        raise ValueError(f"--generator: {name} has the images {', '.join(images) or '(none)'}; expected exactly one")
    scm.mechanism(images[0]).to(device)
    return from_scm(scm, images[0], parent, own, dict(_reader(text, device) for text in readers or ()))


def _read_pipeline(path: Path) -> Any:
    """A pipeline of diffusers from its folder: weights in safetensors alone, and no code that lies beside them."""
    import diffusers  # noqa: PLC0415 - takes seconds, and most have no pipeline

    load = diffusers.DiffusionPipeline.from_pretrained
    try:
        return load(path, local_files_only=True, use_safetensors=True, trust_remote_code=False)
    except (AttributeError, ImportError, KeyError) as error:
        name = json.loads((path / "model_index.json").read_text(encoding="utf-8")).get("_class_name")
        kind = getattr(diffusers, str(name), None)
        needed = (
            [(error.name or "").partition(".")[0]] if isinstance(error, ImportError) else getattr(kind, "_backends", ())
        )
        missing = " ".join(part for part in needed if part and find_spec(part) is None)
        if missing:
            said = f"{path} is a {name}, which needs {missing}; write pip install {missing}"
        elif kind is None:
            said = f"{path / 'model_index.json'}: expected a pipeline of diffusers {diffusers.__version__} as "
            said += f"_class_name, such as StableDiffusionPipeline, got {name!r}; for a newer one upgrade diffusers, "
            said += "and some need pip install transformers"
        else:
            said = f"{path} is a {name} that diffusers {diffusers.__version__} does not read: {error}"
        raise ValueError(f"--generator: {said}") from error


def _reader(text: str, device: torch.device) -> tuple[str, Any]:
    """A parent, and the predictor that reads it."""
    name, equals, source = (part.strip() for part in text.partition("="))
    if not equals:
        raise ValueError(f"--reader {text!r}: expected parent=folder, such as thickness=runs/reader-thickness")
    try:
        found = load_judge(source) if source in predictor_names() else load_predictor(source)
    except (OSError, ValueError) as error:
        raise type(error)(f"--reader: {error}") from error
    return name, found.to(device)


def _numbers(classes: str | None) -> list[int] | None:
    """The classes that a text names."""
    try:
        return None if classes is None else [int(part) for part in classes.split(",")]
    except ValueError:
        raise ValueError(f"--classes: expected numbers, such as 3,8, got {classes!r}") from None
