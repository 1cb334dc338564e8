"""Handwritten digits drawn with a pen.

Whoever draws chooses a digit and a pen. A thicker pen leaves more ink: thickness -> intensity, the mechanism of causal
Morpho-MNIST (Pawlowski et al., "Deep Structural Causal Models for Tractable Counterfactual Inference", 2020). How far a
digit leans depends on which it is: digit -> slant, as in the extension of Rasal et al., "Diffusion Counterfactual
Generation with Semantic Abduction" (2025). All four decide the image: its generator draws from them and from the
handwriting alone, which is the image's exogenous noise.
"""

from causalcf.graph import CausalGraph
from causalcf.variables import Categorical, Continuous, Image

graph = CausalGraph(
    [
        ("thickness", "intensity"),
        ("digit", "slant"),
        ("thickness", "image"),
        ("intensity", "image"),
        ("slant", "image"),
        ("digit", "image"),
    ],
    thickness=Continuous(lower=0.5, unit="px"),
    intensity=Continuous(lower=64.0, upper=255.0, unit="grey level"),
    slant=Continuous(lower=-0.6, upper=0.6, unit="rad"),
    digit=Categorical(10),
    image=Image(1, 28, 28),
)
