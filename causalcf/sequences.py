"""`sequence`: one intervention after another, with the noise of the first picture or of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from causalcf.interventions import Do
from causalcf.scm import SCM
from causalcf.world import World


def sequence(
    scm: SCM, rows: Mapping[str, Tensor], plan: Sequence[Do], *, reabduct: bool = False, seed: int = 0
) -> list[World]:
    """The world observed, and the world after each further intervention of a plan.

    With shared noise, every answer is predicted from the first picture; what was done before keeps holding. Abducted
    again, every answer is treated as if it had been observed: what was done before is a fact, whose causes count again.

    Args:
        scm: the model.
        rows: the observed rows.
        plan: one intervention, or set of interventions, per step.
        reabduct: whether noise is abducted again from each answer.
        seed: of what abduction leaves to chance.

    Returns:
        `len(plan) + 1` worlds, the factual one first.

    Example:
        `observed, thick, upright = cf.sequence(scm, rows, [do(thickness=4.0), do(slant=0.0)])`
    """
    steps = [] if isinstance(plan, Do) else list(plan or ())
    if not steps:
        raise ValueError("sequence: expected at least one intervention in a list, for example [do(a=1.0), do(b=2.0)]")
    for place, step in enumerate(steps):
        if not isinstance(step, Do):
            raise TypeError(f"sequence: step {place + 1} is a {type(step).__name__}; write it as do(name=value)")
        scm.graph.require(*step)  # before anything is abducted
        scm.check_actions(step)
    worlds = [scm.observe(rows, seed)]
    for place, step in enumerate(steps):
        current = worlds[-1].reabduct() if reabduct and place else worlds[-1]
        worlds.append(current.do(step))
    return worlds
