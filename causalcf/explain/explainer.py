"""What all explainers share: batches, rows that are tried again at a larger scale, and what is recorded."""

from __future__ import annotations

import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from causalcf.diffusion.ancestral import Draw
from causalcf.diffusion.gradient import refuse_inference_mode
from causalcf.diffusion.masks import moved, refuse_even
from causalcf.explain.explanation import Explanation
from causalcf.explain.generators import Generator
from causalcf.explain.gradients import Led
from causalcf.explain.inputs import (
    per_row,
    refuse_features,
    refuse_images,
    refuse_locked,
    refuse_other,
    refuse_training,
    warn_of_company,
)
from causalcf.explain.probe import refuse_misfit
from causalcf.explain.queries import Query, decided, held, innermost, probability, refuse_held
from causalcf.graph import check_id
from causalcf.networks.logits import refuse_saying_probabilities
from causalcf.numbers import whole
from causalcf.units import Units, unit_ids

Parity = Literal["published"] | None


@dataclass(frozen=True)
class Attempt:
    """Some rows of a query, to be explained at one scale.

    Attributes:
        query: classifier and targets.
        generator: what draws.
        images: the factual images of these rows.
        factual: the same, encoded.
        rows: their places in the query.
        units: whose noise it is.
        scale: of the guidance.
        number: how many attempts these rows had before.
        spent: evaluations of the generator's network, and gradients through it, of every row of the query.
        given: what the generator's readers say of the factual images.
        locked: places that earlier explanations of these rows changed, and this one may not.
    """

    query: Query
    generator: Generator
    images: Tensor
    factual: Tensor
    rows: Int[Tensor, " batch"]
    units: Units
    scale: float
    number: int
    spent: Float[Tensor, "2 all"]
    given: Mapping[str, Tensor]
    locked: Bool[Tensor, "batch 1 height width"] | None = None

    def part(self, index: Int[Tensor, " some"]) -> Attempt:
        """Some of these rows."""
        units = Units(self.units.ids[index.to(self.units.ids.device)], self.units.seed)
        rows = {"images": self.images[index], "factual": self.factual[index], "rows": self.rows[index]}
        given = {name: values[index] for name, values in self.given.items()}
        locked = None if self.locked is None else self.locked[index]
        return replace(self, **rows, units=units, given=given, locked=locked)

    def told(self, classes: Int[Tensor, " batch"]) -> Tensor:
        """What the generator is told of classes of these rows."""
        return self.generator.told(classes, self.given)

    def book(self) -> None:
        """Share what the generator counted since the last time evenly among these rows."""
        counted = torch.tensor([[self.generator.forward], [self.generator.backward]])
        self.spent[:, self.rows.cpu()] += counted / len(self.rows)
        self.generator.count()

    def draw(self, name: str, fresh: bool = True) -> Draw:
        """Standard normal noise of each level, the rows' own; another in each attempt if fresh."""
        key = f"{name}.{self.number}" if fresh else name
        return lambda k: self.units.normal(f"{key}.{k}", self.factual.shape[1:]).to(self.factual)


def steps_back(strength: float, steps: int) -> int:
    """How many of a chain's steps are taken back, at least one: `floor(strength steps)`, safe from rounding."""
    return max(1, int(strength * steps + 1e-9))


COUNTS = ("steps", "depth", "iterations", "looks", "block")  # options that are whole numbers


def _plain(value: Any) -> Any:
    """Numbers of numpy or torch as those of Python, several of them as a tuple; anything else as it is."""
    if isinstance(value, np.ndarray | Tensor) and value.ndim == 1:
        return tuple(value.tolist())
    if isinstance(value, tuple | list):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, np.generic | np.ndarray | Tensor) and value.ndim == 0 else value


class Explainer(ABC):
    """A way to find counterfactual images of a classifier.

    Args:
        scales: guidance scales; rows that do not flip at one are tried again at the next.
        parity: "published" follows the released code where it differs from what is meant; None is corrected.
        batch: rows at a time; results do not depend on it.
        seed: of all noise, together with the rows' ids.

    Attributes:
        tells: whether the generator is told the classes of the classifier.
    """

    tells: ClassVar[bool] = False

    def __init__(self, scales: Sequence[float], parity: Parity, batch: int, seed: int) -> None:
        kind = type(self).__name__
        sizes = tuple(scales) if isinstance(scales, Iterable) else ()
        if not sizes or any(not size > 0 for size in sizes):
            raise ValueError(f"{kind}: expected scales above 0, got {scales}; write scales=(8, 10, 15)")
        if parity not in (None, "published"):
            raise ValueError(f"{kind}: expected parity 'published' or None, got {parity!r}")
        whole(kind, 1, batch=_plain(batch))
        whole(kind, -(2**63), seed=_plain(seed))
        self.scales, self.parity, self.batch, self.seed = sizes, parity, batch, seed

    @abstractmethod
    def attempt(self, attempt: Attempt) -> tuple[Tensor, Tensor]:
        """Counterfactual images in [0, 1], and where they were allowed to change, `(B, 1, H, W)`."""

    def options(self) -> dict[str, Any]:
        """What is recorded of the explainer beside its name."""
        return {
            name: value
            for name, value in ((name, _plain(value)) for name, value in vars(self).items())
            if value is None or isinstance(value, bool | int | float | str | tuple)
        }

    def leader(self, classifier: Any) -> Any:
        """What gradients are taken of in the classifier's place: a surrogate of the explainer or of `Led`, or None."""
        if (own := getattr(self, "surrogate", None)) is not None:
            return own
        return next((part.surrogate for part in held(classifier) if isinstance(part, Led)), None)

    def explain(
        self,
        classifier: Any,
        generator: Generator,
        images: Float[Tensor, "batch channel height width"],
        target: int | Tensor | None = None,
        ids: Int[Tensor, " batch"] | None = None,
        locked: Bool[Tensor, "batch 1 height width"] | None = None,
    ) -> Explanation:
        """Find counterfactuals that the classifier decides for the target.

        Args:
            classifier: images in [0, 1] -> logits, differentiable: `(B,)` for two classes, `(B, K)` for K. Of a
                multi-label classifier take one label, `cf.explain.label(classifier, index)`.
            generator: what draws.
            images: the factual images, in [0, 1].
            target: a class, one class per row, or None for the other one of two.
            ids: one integer per row, which with the seed decides its noise; by default a digest of the image.
            locked: places that must not change, where the method has masks that can be locked; see `diverse`.
        """
        refuse_inference_mode(f"{type(self).__name__}.explain")
        queries = self.queries(classifier, generator, images, target)
        if locked is not None:
            refuse_locked(locked, images)
        refuse_held(torch.cat([query.predicted == query.target for query in queries]))
        ids = unit_ids({"image": images}) if ids is None else check_id(ids, "ids")
        if len(ids) != len(images):
            raise ValueError(f"ids: expected one per row, {len(images)}, got {len(ids)}")
        parts, about = [], {"method": type(self).__name__, **self.options()}
        if (leader := self.leader(classifier)) is not None:
            about["surrogate"] = getattr(leader, "__name__", type(leader).__name__)
        for number, query in enumerate(queries):
            index = slice(number * self.batch, (number + 1) * self.batch)
            shut = None if locked is None else locked[index]
            parts.append(self._batch(query, generator, images[index], ids[index], shut, about))
        return Explanation.joined(parts)

    def queries(
        self,
        classifier: Any,
        generator: Generator,
        images: Float[Tensor, "batch channel height width"],
        target: int | Tensor | None = None,
    ) -> list[Query]:
        """What `explain` is to answer, one query per batch; nothing is drawn.

        Args:
            classifier: as for `explain`.
            generator: as for `explain`.
            images: as for `explain`.
            target: as for `explain`.

        Raises:
            ValueError: images that are none, a classifier, a surrogate, a target or a generator that does not fit them,
                a network in training mode, or no gradient to follow.
            TypeError: images or a target that are no tensor, something that is no generator, or a classifier that gives
                no tensor.
            FloatingPointError: logits, gradients or what the generator says are not finite.
        """
        surrogate = self.leader(classifier)
        counted = {name: _plain(value) for name, value in vars(self).items() if name in COUNTS and value is not None}
        whole(type(self).__name__, 0, **counted)
        refuse_images(images)
        refuse_other(generator)
        refuse_training(classifier, "classifier")
        refuse_training(surrogate, "surrogate")
        if (perceptual := getattr(self, "perceptual", None)) is not None:
            refuse_training(perceptual, "perceptual")
            refuse_features(perceptual, images)
        target, queries = per_row(target, len(images)), []
        for start in range(0, len(images), self.batch):
            index = slice(start, start + self.batch)
            aim = target[index] if isinstance(target, Tensor) and target.ndim == 1 else target
            queries.append(Query(classifier, images[index], aim))
        refuse_saying_probabilities("classifier", innermost(classifier), images[:1])
        warn_of_company("classifier", queries[0], images)
        queries[0].through(surrogate).refuse_unfit(images)
        refuse_misfit(generator, images)
        if self.tells:
            generator.refuse_classes(queries[0].classes)
            generator.told(queries[0].target[:1], generator.given(images[:1]))
        return queries

    def diverse(
        self,
        classifier: Any,
        generator: Generator,
        images: Float[Tensor, "batch channel height width"],
        target: int | Tensor | None = None,
        ids: Int[Tensor, " batch"] | None = None,
        count: int = 2,
        threshold: float = 0.02,
        blur: int = 5,
    ) -> list[Explanation]:
        """Several explanations of each row, each kept out of the places that the earlier ones changed.

        Methods whose masks cannot be locked differ by their noise alone.

        Args:
            classifier: as for `explain`.
            generator: as for `explain`.
            images: as for `explain`.
            target: as for `explain`.
            ids: as for `explain`.
            count: how many.
            threshold: of the blurred difference from which on a place counts as changed.
            blur: side of the square that blurs.
        """
        refuse_images(images)
        refuse_even(blur)
        if count < 1 or not threshold > 0:
            raise ValueError(f"diverse: expected count >= 1 and threshold > 0, got {count} and {threshold}")
        found: list[Explanation] = []
        locked = torch.zeros_like(images[:, :1], dtype=torch.bool)
        for number in range(count):
            shut = locked if number else None
            found.append(self.further(number).explain(classifier, generator, images, target, ids, shut))
            locked = locked | moved(found[-1].counterfactuals, images, threshold, blur)
        return found

    def further(self, number: int) -> Self:
        """What gives one more explanation of the same rows, after so many."""
        again = copy.copy(self)
        again.seed = self.seed + number
        return again

    @torch.no_grad()
    def _batch(
        self,
        query: Query,
        generator: Generator,
        images: Tensor,
        ids: Tensor,
        locked: Tensor | None,
        about: dict[str, Any],
    ) -> Explanation:
        began = time.perf_counter()
        if images.is_cuda:
            torch.cuda.reset_peak_memory_stats(images.device)
        factual, units = generator.codec.encode(images), Units(ids, self.seed)
        rows = torch.arange(len(images), device=images.device)
        found, where = images.clone(), torch.zeros_like(images[:, :1], dtype=torch.bool)
        scale, after = torch.zeros(len(images)), query.before.clone()
        spent, given = torch.zeros(2, len(images)), generator.given(images) if self.tells else {}
        flipped: Bool[Tensor, " batch"] = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        for number, size in enumerate(self.scales):
            left = rows[~flipped]
            if len(left) == 0:
                break
            generator.count()
            part = Units(ids[left.to(ids.device)], units.seed)
            shut = None if locked is None else locked[left]
            known = {name: values[left] for name, values in given.items()}
            asked = Attempt(query, generator, images[left], factual[left], left, part, size, number, spent, known, shut)
            answer, mask = self.attempt(asked)
            asked.book()
            found[left], where[left] = answer.clamp(0, 1).to(found), mask
            logits = query.logits(found[left])
            flipped[left] = decided(logits) == query.target[left]
            after[left] = probability(logits, query.target[left]).to(after)
            scale[left.cpu()] = size
        seconds = torch.full((len(images),), (time.perf_counter() - began) / len(images))
        memory = torch.full((len(images),), math.nan, dtype=torch.float64)
        if images.is_cuda:
            memory.fill_(torch.cuda.max_memory_allocated(images.device))
        return Explanation(
            images,
            found,
            query.predicted,
            query.target,
            query.before,
            after,
            flipped,
            where,
            scale,
            spent[0],
            spent[1],
            ids,
            seconds,
            memory,
            about,
        )
