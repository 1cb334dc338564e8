"""Causal Morpho-MNIST, whose story is known because the data were generated from it.

- thickness -> intensity: thicker strokes are brighter, `i = 64 + 191 sigmoid(2t - 5 + 0.5 u)` (Pawlowski et
  al., 2020, Deep Structural Causal Models, https://arxiv.org/abs/2006.06485).
- thickness -> image: strokes are dilated or eroded to a mean thickness (Castro et al., 2019, Morpho-MNIST,
  https://arxiv.org/abs/1809.10780).
- intensity -> image: grey levels are scaled to that median (Pawlowski et al., 2020).
- digit -> image, and no other edge of digit: it is the handwriting's label in MNIST, and thickness and
  intensity are drawn without looking at it (De Sousa Ribeiro et al., 2023, High Fidelity Image
  Counterfactuals with Probabilistic Causal Models, https://arxiv.org/abs/2306.15764, use this graph).
"""

from causalcf.graph import CausalGraph
from causalcf.variables import Categorical, Continuous, Image

graph = CausalGraph(
    [("thickness", "intensity"), ("thickness", "image"), ("intensity", "image"), ("digit", "image")],
    thickness=Continuous(lower=0.0, unit="px"),
    intensity=Continuous(lower=0.0, upper=255.0, unit="grey level"),
    digit=Categorical(10),
    image=Image(1, 28, 28),
)
