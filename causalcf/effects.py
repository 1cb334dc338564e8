"""Effects of interventions, for each unit: total, direct, indirect, and what the two do not explain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from causalcf.interventions import Do, as_intervention
from causalcf.world import World

Values = Float[Tensor, "batch ..."]


@dataclass(frozen=True, repr=False)
class Effects:
    r"""The effect of `A: a -> a*` on Y through and past its mediators M, unit by unit (Pearl, 2001).

    With `Y(a, m)` predicted from the same noise, never the raw observation:

    - total `Y(a*, M(a*)) - Y(a, M(a))`
    - direct `Y(a*, M(a)) - Y(a, M(a))`, indirect `Y(a, M(a*)) - Y(a, M(a))`
    - reverse direct `Y(a*, M(a*)) - Y(a, M(a*))`, reverse indirect `Y(a*, M(a*)) - Y(a*, M(a))`
    - interaction = total - direct - indirect

    So total = direct + reverse indirect = indirect + reverse direct, exactly.

    Attributes:
        on: the name of Y.
        action: the intervention.
        mediators: the names of M.
        factual: `Y(a, M(a))`.
        counterfactual: `Y(a*, M(a*))`.
        direct_only: `Y(a*, M(a))`.
        indirect_only: `Y(a, M(a*))`.
    """

    on: str
    action: Do
    mediators: tuple[str, ...]
    factual: Values
    counterfactual: Values
    direct_only: Values
    indirect_only: Values

    def __repr__(self) -> str:
        """One line, as of a world: how far each part moves a unit, on average."""
        parts = ("total", "direct", "indirect", "interaction")
        means = ", ".join(f"{name} {getattr(self, name).double().abs().mean().item():.3g}" for name in parts)
        through = f", mediated by {', '.join(self.mediators)}" if self.mediators else ""
        return f"Effects of {self.action!r} on {self.on} of {len(self.factual)} units{through}; mean size: {means}"

    @cached_property
    def total(self) -> Values:
        """`Y(a*, M(a*)) - Y(a, M(a))`."""
        return self.counterfactual - self.factual

    @cached_property
    def direct(self) -> Values:
        """`Y(a*, M(a)) - Y(a, M(a))`: the mediators held at their factual values."""
        return self.direct_only - self.factual

    @cached_property
    def indirect(self) -> Values:
        """`Y(a, M(a*)) - Y(a, M(a))`: only the mediators respond."""
        return self.indirect_only - self.factual

    @cached_property
    def reverse_direct(self) -> Values:
        """`Y(a*, M(a*)) - Y(a, M(a*))`."""
        return self.counterfactual - self.indirect_only

    @cached_property
    def reverse_indirect(self) -> Values:
        """`Y(a*, M(a*)) - Y(a*, M(a))`."""
        return self.counterfactual - self.direct_only

    @cached_property
    def interaction(self) -> Values:
        """`total - direct - indirect`; zero where the two do not interact."""
        return self.total - self.direct - self.indirect


def decompose(world: World, action: Do, on: str) -> Effects:
    """Split the effect of an intervention into what goes through other variables and what does not.

    The mediators are the variables between the intervened ones and `on`. Each of the four values is an ordinary `do`,
    in which causes and mediators are held at the values they take in a world: all four alike, for a mechanism may heed
    which of its parents were intervened on, and what a mediator that does not move carries is 0.

    Args:
        world: whose units to ask about.
        action: the intervention.
        on: the outcome.

    Raises:
        ValueError: an outcome that the intervention does not reach.
        TypeError: an outcome with classes, whose values have no difference.
    """
    if not isinstance(world, World):
        raise TypeError(f"decompose: expected a world, got {type(world).__name__}; write scm.observe(rows)")
    graph = world.scm.graph
    graph.require(on, *action)
    if on in action or on not in graph.descendants(tuple(action)):
        raise ValueError(
            f"decompose: {on} is no effect of {', '.join(action)}; its causes are "
            f"{', '.join(n for n in graph if n in graph.ancestors(on)) or 'none'}"
        )
    if not world[on].is_floating_point():
        raise TypeError(
            f"decompose: {on} is {graph[on]}, whose values have no difference; take a Continuous or Image outcome"
        )
    between = graph.descendants(tuple(action)) & graph.ancestors(on) - set(action)
    mediators = tuple(name for name in graph if name in between)
    factual = world.do(recompute=True)
    counterfactual = factual.do(action)

    def nested(causes: World, through: World) -> Values:
        held = {name: causes[name] for name in action} | {name: through[name] for name in mediators}
        return factual.do(Do({name: (as_intervention(name, value),) for name, value in held.items()}))[on]

    return Effects(
        on,
        action,
        mediators,
        nested(factual, factual),
        nested(counterfactual, counterfactual),
        nested(counterfactual, factual),
        nested(factual, counterfactual),
    )
