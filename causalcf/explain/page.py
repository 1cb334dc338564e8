"""An explanation as a web page: one file, images included, nothing fetched from elsewhere."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from html import escape

import matplotlib.image
import numpy as np
import torch

from causalcf.explain.explanation import Explanation
from causalcf.metrics.explanation import l1_change
from causalcf.plot.sheet import CHANGE, change, pictures

WIDEST = 192  # of a picture on the page, in its dots; smaller images are shown in whole multiples
STYLE = """
:root { color-scheme: light; --ink: #1b2030; --muted: #6b7284; --rule: #dfe2ea; --good: #12703f; --bad: #a3262b; }
body { font: 14px/1.45 system-ui, sans-serif; color: var(--ink); background: #fff; margin: 2rem auto; padding: 0 1.5rem;
       max-width: 92rem; }
h1 { font-size: 1.5rem; margin: 0 0 1rem; }
.numbers { display: flex; flex-wrap: wrap; gap: .75rem; margin: 0 0 1rem; padding: 0; list-style: none; }
.numbers li { border: 1px solid var(--rule); border-radius: 8px; padding: .5rem .9rem; }
.numbers b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
.numbers span, p, details { color: var(--muted); }
code { color: var(--ink); background: #f3f4f8; border-radius: 4px; padding: .1rem .35rem; margin-right: .25rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin-top: 1rem; }
th { position: sticky; top: 0; background: #fff; text-align: left; color: var(--muted); font-weight: 600;
     border-bottom: 2px solid var(--rule); padding: .4rem .5rem; vertical-align: bottom; }
th[data-kind] { cursor: pointer; } th[data-kind]:hover { color: var(--ink); }
th[aria-sort=ascending]::after { content: " \\25B2"; } th[aria-sort=descending]::after { content: " \\25BC"; }
td { border-bottom: 1px solid var(--rule); padding: .4rem .5rem; font-variant-numeric: tabular-nums; }
td img { display: block; image-rendering: pixelated; border: 1px solid var(--rule); border-radius: 3px; }
.yes { color: var(--good); font-weight: 600; } .no { color: var(--bad); font-weight: 600; }
.bar { height: .55rem; width: 12rem; border: 1px solid var(--rule); display: inline-block; vertical-align: middle; }
"""
SCRIPT = """
document.querySelectorAll("th[data-kind]").forEach((head) => head.addEventListener("click", () => {
  const body = document.querySelector("tbody"), place = head.cellIndex;
  const down = head.getAttribute("aria-sort") === "ascending", sign = down ? -1 : 1;
  document.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const value = (row) => row.cells[place].dataset.value;
  const words = (a, b) => a.localeCompare(b, undefined, {numeric: true});
  const order = head.dataset.kind === "text" ? words : (a, b) => a - b;
  [...body.rows].sort((a, b) => sign * order(value(a), value(b))).forEach((row) => body.append(row));
}));
"""


def page(
    explanation: Explanation,
    names: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    title: str = "Why, and what instead",
) -> str:
    """A web page with what was done, how it went, and a row of pictures and numbers for each image.

    A click on the head of a column sorts by it. Differences are those of `cf.plot.explanations`, on one scale. A page
    of images of 64 pixels takes about 30 kB for each, one of 256 pixels half a megabyte.

    Args:
        explanation: of the images.
        names: of the images; by default their ids.
        classes: names of the classes; by default their numbers.
        title: of the page.

    Returns:
        The text of an HTML file.

    Example:
        `Path("report.html").write_text(cf.explain.page(explanation))`
    """
    if names is not None and len(names) != len(explanation):
        raise ValueError(f"page: expected a name for each of {len(explanation)} rows, got {len(names)}")
    greatest = int(torch.cat([explanation.predicted, explanation.target]).max())
    if classes is not None and len(classes) <= greatest:
        raise ValueError(f"page: expected names of the classes 0 to {greatest}, got {len(classes)}; name every class")
    names = [str(row) for row in explanation.ids.tolist()] if names is None else names
    moved = change(explanation.counterfactuals, explanation.images)
    limit = max(float(np.abs(moved).max()), 1.0)
    heads = "".join(f"<th{f' data-kind={kind}' if kind else ''}>{name}</th>" for name, kind in COLUMNS)
    lines = "\n".join(
        _line(explanation[row : row + 1], names[row], classes, moved[row], limit) for row in range(len(explanation))
    )
    shades = ", ".join(f"rgb({', '.join(str(round(255 * c)) for c in CHANGE(k / 8)[:3])})" for k in range(9))
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
{_summary(explanation)}
<p>p is the probability of the class asked for. Differences are of the channel that changed most, from −{limit:.0f}
<span class="bar" style="background: linear-gradient(90deg, {shades})"></span> +{limit:.0f} grey levels of 255; the mask
is where the image might change. A click on a column's head sorts.</p>
<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>
{lines}
</tbody></table></div><script>{SCRIPT}</script></body></html>
"""
    return text.encode("ascii", "xmlcharrefreplace").decode()  # the same in whatever encoding it is written


COLUMNS = (
    ("image", "text"),
    ("factual", ""),
    ("counterfactual", ""),
    ("difference", ""),
    ("mask", ""),
    ("decided", "text"),
    ("p before", "number"),
    ("p after", "number"),
    ("flipped", "number"),
    ("L1", "number"),
    ("mask, share", "number"),
    ("scale", "number"),
    ("network evaluations", "number"),
    ("gradients through it", "number"),
    ("seconds", "number"),
)


def _summary(explanation: Explanation) -> str:
    """The method with its options, and what it came to."""
    rows, flipped = len(explanation), int(explanation.flipped.sum())
    l1 = l1_change(explanation.images, explanation.counterfactuals)
    about = dict(explanation.about)
    numbers = [
        (str(about.pop("method", "?")), "method"),
        (f"{flipped / rows:.3g}", f"flip rate, {flipped} of {rows} rows"),
        (f"{explanation.after.double().mean():.3g}", "mean p after"),
        (f"{l1.mean():.4f}", "mean L1, all rows"),
        (f"{explanation.forward.double().mean():.0f}", "network evaluations a row"),
        (f"{explanation.backward.double().mean():.0f}", "gradients through the network a row"),
        (f"{explanation.seconds.double().sum():.3g} s", f"in all, {explanation.seconds.double().mean():.3g} s a row"),
    ]
    most = explanation.memory.nan_to_num(0.0).max().item()
    if most:
        numbers.append((f"{most / 2**30:.2f} GiB", "most GPU memory"))
    items = "".join(f"<li><b>{escape(value)}</b><span>{escape(what)}</span></li>" for value, what in numbers)
    options = " ".join(f"<code>{escape(f'{name}={json.dumps(value)}')}</code>" for name, value in about.items())
    return f'<ul class="numbers">{items}</ul>\n<p>Options: {options or "none"}</p>'


def _line(row: Explanation, name: str, classes: Sequence[str] | None, moved: np.ndarray, limit: float) -> str:
    """A row of the table."""
    was, to = (int(value) if classes is None else classes[int(value)] for value in (row.predicted, row.target))
    flipped = bool(row.flipped)
    shown = [pictures(row.images)[0], pictures(row.counterfactuals)[0], CHANGE(moved / (2 * limit) + 0.5)[..., :3]]
    cells = [_cell(escape(name), name)]
    cells += [f"<td>{_picture(values, name)}</td>" for values in (*shown, pictures(row.mask.float())[0])]
    cells += [
        _cell(escape(f"{was} → {to}"), f"{was} {to}"),
        _cell(f"{row.before.item():.3f}", row.before.item()),
        _cell(f"{row.after.item():.3f}", row.after.item()),
        _cell(f'<span class="{"yes" if flipped else "no"}">{"yes" if flipped else "no"}</span>', int(flipped)),
    ]
    l1, share = l1_change(row.images, row.counterfactuals).item(), row.mask.double().mean().item()
    cells += [_cell(f"{l1:.4f}", l1), _cell(f"{100 * share:.0f} %", share)]
    cells += [
        _cell(f"{value.item():.4g}", value.item()) for value in (row.scale, row.forward, row.backward, row.seconds)
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _cell(text: str, value: object) -> str:
    return f'<td data-value="{escape(str(value))}">{text}</td>'


def _picture(values: np.ndarray, name: str) -> str:
    """An image of a page, its file in its address."""
    coloured = values if values.ndim == 3 else np.repeat(values[..., None], 3, 2)
    file = io.BytesIO()
    matplotlib.image.imsave(file, coloured, format="png")
    width = values.shape[1] * max(1, math.floor(WIDEST / values.shape[1] * 2 / 3))
    code = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{escape(name)}" width="{width}" loading="lazy" src="data:image/png;base64,{code}">'
