"""A pendulum in the sun, and the shadow it casts.

The sun's light and the pendulum decide together how long the shadow is and where it falls: angle, sun -> length and
angle, sun -> position, the graph of Yang et al., "CausalVAE: Disentangled Representation Learning via Neural Structural
Causal Models" (2021), by the projection of pivot and tip along the sun's rays. Nothing else moves a shadow, so these
two have no noise. All four decide the image: its generator draws the pendulum, the sun, and the shadow with the length
and the position it is told.
"""

from causalcf.graph import CausalGraph
from causalcf.variables import Continuous, Image

graph = CausalGraph(
    [
        ("angle", "length"),
        ("sun", "length"),
        ("angle", "position"),
        ("sun", "position"),
        ("angle", "image"),
        ("sun", "image"),
        ("length", "image"),
        ("position", "image"),
    ],
    angle=Continuous(lower=-0.65, upper=0.7, unit="rad"),
    sun=Continuous(lower=0.9, upper=2.35, unit="rad"),
    length=Continuous(lower=1.0, upper=15.0),
    position=Continuous(lower=0.0, upper=22.0),
    image=Image(3, 64, 64),
)
