"""Smiles, spectacles and five further attributes, in photographs of faces.

- smiling -> mouth_slightly_open: who smiles often parts the lips. It is the one edge between the seven attributes of
  Rasal et al., "Diffusion Counterfactual Generation with Semantic Abduction" (2025), and one of those of Kocaoglu et
  al., "CausalGAN" (2018), `big_causal_graph` of its code.
- All attributes -> image: labels were given for what the photographs show.

There the mouth is whatever the smile is. Here it has noise of its own, as many smile with closed lips: then
do(eyeglasses) leaves an open mouth open. Male, bald, lipstick, hat and spectacles are no causes of each other in that
graph, which is known to be wrong of some: among the photographs, no woman is bald.
"""

from causalcf.graph import CausalGraph
from causalcf.variables import Binary, Image

graph = CausalGraph(
    """
    smiling -> mouth_slightly_open
    mouth_slightly_open, smiling, male, eyeglasses, wearing_lipstick, bald, wearing_hat -> image
    """,
    mouth_slightly_open=Binary(),
    smiling=Binary(),
    male=Binary(),
    eyeglasses=Binary(),
    wearing_lipstick=Binary(),
    bald=Binary(),
    wearing_hat=Binary(),
    image=Image(3, 64, 64),
)
