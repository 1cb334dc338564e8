"""A structural causal model as a Pyro program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from causalcf.assignments import Node
from causalcf.mechanisms.structure import intervened
from causalcf.units import Units

if TYPE_CHECKING:
    from causalcf.scm import SCM


def program(scm: SCM) -> Callable[[int], dict[str, Tensor]]:
    """The model as an ordinary Pyro program; see `SCM.to_pyro`."""

    def model(rows: int = 1) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        with pyro.plate("scm.units", rows, dim=-1):
            for name in scm.graph:
                values[name] = _site(scm, name, values, rows)
        return values

    return model


def _site(scm: SCM, name: str, values: Mapping[str, Tensor], rows: int) -> Tensor:
    mechanism, variable = scm.mechanism(name), scm.graph[name]
    parents = {parent: values[parent] for parent in scm.graph.parents(name)}

    def natural() -> Tensor:
        if mechanism.has_density:
            return pyro.sample(f"{name}.natural" if name in scm.actions else name, mechanism.distribution(parents))
        noise = {}
        for site, shape in mechanism.noise_shapes().items():
            zero = torch.zeros(shape, device=scm.device, dtype=torch.float64)
            if site == getattr(mechanism, "remainder", None):  # drawn noise leaves it out, unless it is conditioned on
                given = pyro.deterministic(f"{name}.{site}", zero + torch.inf, event_dim=len(shape))
                noise |= {site: given} if given.isfinite().all() else {}
            else:
                noise[site] = pyro.sample(f"{name}.{site}", dist.Normal(zero, zero + 1).to_event(len(shape)))
        noise = {site: u.expand(rows, *mechanism.noise_shapes()[site]) for site, u in noise.items()}
        return mechanism.predict(mechanism.act(noise, intervened(scm.graph, name, scm.actions)), parents)

    if name in scm.actions:
        units = Units(torch.arange(rows, device=scm.device), int(torch.randint(2**62, ())))
        value = scm.actions.apply(Node(name, variable, natural, parents, units, scm.device, scm.dtype))
    else:
        value = natural().expand(rows, *variable.shape)
        if mechanism.has_density:
            return value
    return pyro.deterministic(name, value, event_dim=len(variable.shape))
