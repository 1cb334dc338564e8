"""A ball in a container of water, and the jet from a hole in its wall.

A ball displaces as much water as its volume: ball -> water. The pressure of the water above the mark and the height of
the hole decide how far the jet lands: water, hole -> jet. Both are the graph of Yang et al., "CausalVAE: Disentangled
Representation Learning via Neural Structural Causal Models" (2021), with the equations of its generator. How much water
was poured in is the water's noise; the jet has none. All four decide the image: its generator draws the ball, the
water, the hole and a jet that lands where it is told.
"""

from causalcf.graph import CausalGraph
from causalcf.variables import Continuous, Image

graph = CausalGraph(
    [
        ("ball", "water"),
        ("water", "jet"),
        ("hole", "jet"),
        ("ball", "image"),
        ("water", "image"),
        ("hole", "image"),
        ("jet", "image"),
    ],
    ball=Continuous(lower=4.0, upper=36.0, unit="1/30"),
    hole=Continuous(lower=5.5, upper=15.5, unit="1/3"),
    water=Continuous(lower=0.9, upper=5.9),
    jet=Continuous(lower=1.0, upper=7.5),
    image=Image(3, 64, 64),
)
