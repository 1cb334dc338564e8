"""Measure every way of explaining the same classifier on the same rows, with the same generator.

    python -m experiments.explain.evaluate --data toyfaces
    CAUSALCF_DATA=folder python -m experiments.explain.evaluate --data celeba --rows 200

Writes one JSON file per method as soon as it is measured, and then the table, the claims and the grid of pictures; with
`--only '[]'` it writes these of what is measured already. Explanations are kept in parts beside the models, so that it
can be killed and started again at any time; they and the pictures of `celeba` show people, and stay where they are
made.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from causalcf.diffusion.masks import moved
from causalcf.explain.explainer import Explainer
from causalcf.explain.explanation import Explanation
from causalcf.metrics.report import Report
from causalcf.storage import write_text
from experiments.explain.bench import Asked, Bench, digests, prepared, selected
from experiments.explain.data import Faces, Split
from experiments.explain.known import Known
from experiments.explain.measured import PLACES, TRUTH
from experiments.explain.memory import peak
from experiments.explain.methods import BATCH, METHODS, explainer, family_of, slug
from experiments.explain.results import write

SPENT = "processor-seconds.txt"
KEPT = set(PLACES.values())  # what is kept of every row, to decide claims row by row


def explained(
    name: str, bench: Asked, how: Explainer, count: int, folder: Path, first: Explanation | None = None
) -> tuple[Explanation, Tensor]:
    """Explanations of the first rows, kept in parts, and the processor time of each.

    Args:
        name: of the method.
        bench: what all methods share.
        how: its explainer, whose batches are the parts.
        count: rows.
        folder: where parts are kept.
        first: the first explanations, if these are second ones: what those changed is left alone where the method can.
    """
    method, parts, seconds = METHODS[name], [], []
    for start in range(0, count, how.batch):
        place, rows = folder / f"{how.seed}-{start}", slice(start, min(start + how.batch, count))
        images, ids = bench.rows["image"][rows], bench.rows["id"][rows]
        if not _held(place, images, ids):
            shut = None
            if first is not None and method.apart:
                shut = moved(first[rows].counterfactuals, images, 0.02, 5)
            generator, classifier = bench.drawing[method.latent], method.asked(bench.kit)
            target = None if bench.target is None else bench.target[rows]
            began = time.process_time()
            found = how.explain(classifier, generator, images, target, ids, shut)
            spent = (time.process_time() - began) / len(images)
            unfinished = place.with_suffix(".part")
            found.save(unfinished, pictures=False)
            (unfinished / SPENT).write_text(f"{spent}\n")
            shutil.rmtree(place, ignore_errors=True)  # of fewer rows, if it is there
            unfinished.rename(place)
        parts.append(Explanation.load(place)[slice(0, len(ids))])
        seconds.append(torch.full((len(ids),), float((place / SPENT).read_text())))
    return Explanation.joined(parts), torch.cat(seconds)


def _held(place: Path, images: Tensor, ids: Tensor) -> bool:
    """Whether a part is there, of all these rows; one of others is refused."""
    if not place.is_dir():
        return False
    part = Explanation.load(place)
    count = min(len(part), len(ids))
    if not (torch.equal(part.ids[:count], ids[:count]) and torch.equal(part.images[:count], images[:count])):
        raise SystemExit(f"{place} holds explanations of other rows; move {place.parent.parent} out of the way")
    return len(part) >= len(ids)


def identity(name: str, how: Explainer, weights: str, split: Split) -> dict[str, Any]:
    """What decides the explanations of a row, as plain data."""
    options: dict[str, Any] = how.options()
    if (surrogate := getattr(how, "surrogate", None)) is not None:
        plain = {key: value for key, value in vars(surrogate).items() if isinstance(value, int | float | str)}
        options["surrogate"] = [type(surrogate).__name__, plain]
    return json.loads(json.dumps({"method": name, "weights": weights, "split": split, "options": options}))


def main(
    data: str = "toyfaces",
    rows: int = 500,
    few: int = 150,
    slowest: int = 80,
    again: int = 50,
    only: list[str] | None = None,
    models: Path = Path("runs"),
    out: Path | None = None,
    split: Split = "test",
    batch: int = BATCH,
    threads: int = 1,
) -> None:
    """Measure, and write what the results say.

    Args:
        data: toyfaces or celeba.
        rows: rows that the main methods explain.
        few: the first of them, that others explain.
        slowest: the first of these, that the slowest explain.
        again: rows with a second explanation, for diversity; a quarter of those with a first one at most.
        only: names of methods; all by default.
        models: folder of what `train` wrote; explanations are kept there too, in `<data>-explanations`.
        out: where JSON files, table, claims and grid go; by default `experiments/explain/results/<data>`.
        split: of the rows.
        batch: rows that are explained, and kept, at a time, by all methods.
        threads: of the processor.
    """
    torch.set_num_threads(threads)
    faces, place = Faces(data), Path("experiments/explain/results") / data if out is None else out
    place.mkdir(parents=True, exist_ok=True)
    if unknown := set(only or ()) - METHODS.keys():
        raise SystemExit(f"--only: expected names of METHODS, got {', '.join(sorted(unknown))}")
    weights = digests(data, models)
    able = [name for name, method in METHODS.items() if method.latent in weights]
    asked = [name for name in able if only is None or name in only]
    if left := [name for name in METHODS if name not in able]:
        print(f"without --only '[latent]' of experiments.explain.train, not measured: {', '.join(left)}", flush=True)
    chosen = selected(place / "options.json", data, weights, asked)
    bench = prepared(faces, models, split, rows, chosen)
    counts = {"all": len(bench.rows["id"])}
    counts |= {"few": min(few, counts["all"])}
    counts |= {"slowest": min(slowest, counts["few"])}
    kept, failed = models / f"{data}-explanations", []
    hows = {name: explainer(name, bench.kit, chosen, batch) for name in able if family_of(name) in chosen}
    current = {name: identity(name, how, weights[METHODS[name].latent], split) for name, how in hows.items()}
    for name in asked:
        how, path = hows[name], place / f"{slug(name)}.json"
        about, count = current[name], counts[METHODS[name].rows]
        prefixes = sorted({number for number in counts.values() if number <= count})
        wanted = {"rows": count, "again": min(again, -(-count // 4)), "prefixes": prefixes}
        if path.exists() and covers(json.loads(path.read_text()), about, wanted):
            continue
        folder = f"{slug(name)}-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]}"
        try:
            found, spent = explained(name, bench, how, count, kept / folder)
            how.seed += 1
            second, _ = explained(name, bench, how, wanted["again"], kept / folder, found)
        except FloatingPointError as error:
            failed.append(name)
            print(f"{name}: {error}", flush=True)
            continue
        content = {"about": about, "asked": wanted, "folder": folder, "machine": machine()}
        content |= measured(name, bench, found, spent, second, wanted["prefixes"])
        content["tensors"] = peak(name, bench, chosen)
        write_text(path, json.dumps(content) + "\n")
        print(f"{name}: {found}", flush=True)
    current |= known(bench, place, kept, {"weights": weights[False], "split": split}, sorted(set(counts.values())))
    write(place, place if data == "toyfaces" else kept, kept, current)
    if failed:
        raise SystemExit(f"not measured, as their steps were not finite: {', '.join(failed)}")


def known(
    bench: Bench, place: Path, kept: Path, shared: Mapping[str, Any], prefixes: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """The true counterfactuals, measured as if a method had found them, where they are known.

    Args:
        bench: what all share.
        place: folder of the JSON files.
        kept: folder of the explanations.
        shared: what decides the rows and the measures.
        prefixes: as for `measured`.
    """
    if not bench.knows:
        return {}
    rows = bench.rows
    how = Known(lambda _, target: bench.truth(target)[1], len(rows["id"]))  # of the first rows, so all at once
    found = how.explain(bench.kit.classifier, bench.drawing[False], rows["image"], ids=rows["id"])
    about = {"method": TRUTH, **shared}
    folder, path = slug(TRUTH), place / f"{slug(TRUTH)}.json"
    asked = {"rows": len(found), "again": 0, "prefixes": list(prefixes)}
    if not (path.exists() and covers(json.loads(path.read_text()), about, asked)):
        found.save(kept / folder / "0-0", pictures=False)
        said = {"about": about, "asked": asked, "folder": folder, "machine": "-"}
        nothing = torch.zeros(len(found))
        write_text(path, json.dumps(said | measured(TRUTH, bench, found, nothing, None, prefixes)) + "\n")
    return {TRUTH: about}


def covers(content: Mapping[str, Any], about: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a file tells of the same weights, options and split, and of all that is asked."""
    held = content["asked"]
    return (
        content["about"] == about
        and held["rows"] >= wanted["rows"]
        and held["again"] >= wanted["again"]
        and set(held["prefixes"]) >= set(wanted["prefixes"])
    )


def machine() -> str:
    """Which processor, on how many threads."""
    info, count = Path("/proc/cpuinfo"), torch.get_num_threads()
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{[*names, platform.machine()][0]}, {count} thread{'s' * (count > 1)}, torch {torch.__version__}"


def measured(
    name: str, bench: Bench, found: Explanation, spent: Tensor, second: Explanation | None, prefixes: Sequence[int]
) -> dict[str, Any]:
    """What is reported of a method, as plain data.

    Args:
        name: of the method.
        bench: what all share.
        found: explanations.
        spent: processor seconds of each.
        second: further explanations of the first rows, if there are.
        prefixes: numbers of first rows of which what is only said of rows together is wanted.
    """
    report = bench.scores(found, name)
    together = {str(count): bench.together(found[slice(0, count)]) for count in prefixes}
    return {
        "options": found.about,
        "rows": report.to_dict()["about"],
        "lines": lined(report),
        "varied": [] if second is None else lined(bench.varied(found, second, name)),
        "together": Report((), together).to_dict()["about"],
        "cost": costs(found, spent),
    }


def costs(found: Explanation, spent: Tensor) -> dict[str, list[float | None]]:
    """What each row took: processor seconds, evaluations, and whether it was tried again."""
    retried = (found.scale - found.scale.new_tensor(found.about["scales"][0])).abs() > 1e-4
    cost = {"processor": spent, "forward": found.forward, "backward": found.backward, "retried": retried}
    return {column: plain(values) for column, values in cost.items()}


def lined(report: Report) -> list[dict[str, Any]]:
    """The lines of a report, with the values of rows where they are wanted."""
    lines = report.to_dict()["lines"]
    for line, found in zip(lines, report.lines, strict=True):
        if found.values is not None and (found.metric, found.variable) in KEPT:
            line["values"] = plain(found.values)
    return lines


def plain(values: Tensor) -> list[float | None]:
    """Numbers for JSON, five digits of each."""
    return [None if math.isnan(value) else float(f"{value:.5g}") for value in values.double().tolist()]


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
