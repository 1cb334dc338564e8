"""Readers that correct prediction: which of them steer, how, and towards what."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from causalcf.diffusion.calibration import OMEGAS, Calibrated
from causalcf.diffusion.guidance import ClassifierFree, Guidance
from causalcf.diffusion.readers import BETWEEN, Reader, Reading, read
from causalcf.mechanisms.base import Noise, Parents
from causalcf.mechanisms.trials import tried
from causalcf.variables import Continuous, Variable

By = Literal["reading", "omega", "both"]


@dataclass(frozen=True)
class Steering:
    """Readers of an image's parents, and what is done with what they read; see `Diffusion.steer`.

    Args:
        readers: parent -> what reads it from images in [0, 1].
        classes: the parents among them that have no distance.
        by: "reading", "omega" or "both".
        tolerance: parent -> how far a reading may be off, for omega.
        relative: the parents whose readings must change by as much as they do.
        between: the signal to noise at which images are read, for readings.
    """

    readers: Mapping[str, Reader] = field(default_factory=dict)
    classes: frozenset[str] = frozenset()
    by: By = "reading"
    tolerance: Mapping[str, float] = field(default_factory=dict)
    relative: frozenset[str] = frozenset()
    between: tuple[float, float] = BETWEEN

    @classmethod
    def checked(
        cls,
        readers: Mapping[str, Any],
        parents: Mapping[str, Variable],
        by: By,
        tolerance: Mapping[str, float] | None,
        relative: bool | Collection[str],
        blank: Tensor,
        between: tuple[float, float],
    ) -> Steering:
        """What a user asks for, if it fits the image's parents; readers are tried on blank images."""
        if by not in get_args(By):
            raise ValueError(f"steer: expected by in {get_args(By)}, got {by!r}")
        if not readers:
            raise ValueError("steer: expected a reader for one parent at least, got none; give {'thickness': reader}")
        allowed = dict(tolerance or {})
        names = [] if isinstance(relative, bool) else list(relative)
        unknown = [name for name in (*readers, *allowed, *names) if name not in parents]
        if unknown:
            raise ValueError(f"steer: {unknown[0]} is no parent of this image; it has {', '.join(parents)}")
        unread = [name for name in (*allowed, *names) if name not in readers]
        if unread:
            raise ValueError(
                f"steer: no reader reads {unread[0]}; give one, {{{unread[0]!r}: reader}}, or leave it out of "
                "tolerance and relative"
            )
        classes = frozenset(name for name in readers if not isinstance(parents[name], Continuous))
        if by == "reading" and classes:
            raise ValueError(
                f"steer: {min(classes)} is a class, which has no distance; leave it out, or take by='omega' or 'both'"
            )
        if by == "omega" and set(allowed) != set(readers):
            raise ValueError(f"steer: by='omega' needs a tolerance for each of {', '.join(readers)}")
        for name, distance in allowed.items():
            if not distance >= 0:
                raise ValueError(f"steer: expected a tolerance >= 0 for {name}, got {distance}")
        found = {
            name: tried("steer", name, reader, parents[name], blank, by != "omega") for name, reader in readers.items()
        }
        chosen = frozenset(found) if relative is True else frozenset(names)
        return cls(found, classes, by, allowed, chosen, between)

    def offsets(self, image: Tensor, parents: Parents) -> Noise:
        """By how much each reading of the factual image is off, where readings are relative, and its own classes."""
        found: Noise = {}
        if self.by != "omega":
            names = [name for name in self._numbers if name in self.relative]
            found |= {f"h.{name}": read(name, self.readers[name], image) - parents[name] for name in names}
        if self.by == "both":
            found |= {f"h.{name}": parents[name] for name in sorted(self.classes)}
        return found

    @property
    def _numbers(self) -> list[str]:
        return [name for name in self.readers if name not in self.classes]

    def guidance(self, plain: Guidance, free: ClassifierFree, noise: Noise, parents: Parents) -> Guidance:
        """What guides prediction towards these parents, given what would without readers."""
        if not self.readers:
            return plain
        targets = {name: parents[name] + noise.get(f"h.{name}", 0.0) for name in self._numbers}
        readers = {name: self.readers[name] for name in self._numbers}
        reading = Reading(readers, targets, self.between, dtype=free.null.dtype)
        if self.by == "reading":
            return plain + reading
        omegas = (free.scale, *(omega for omega in OMEGAS if omega > free.scale))
        if self.by == "omega":
            return Calibrated(free, self.readers, parents, self.tolerance, omegas)
        classes = {name: self.readers[name] for name in sorted(self.classes)}
        if not classes:
            return plain + reading
        changed = [noise[f"h.{name}"] != parents[name] for name in classes if f"h.{name}" in noise]
        wanted = torch.stack(changed).any(0) if changed else None
        tolerance = dict.fromkeys(classes, 0.0)
        chosen = Calibrated(free, classes, parents, tolerance, omegas, wanted=wanted)
        return chosen + reading if targets else chosen
