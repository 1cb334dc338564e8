"""Faces that are drawn from what can be said of them.

A smile often parts the lips: smiling -> mouth_open. Older eyes need reading glasses: old -> eyeglasses. Both edges, and
male -> lipstick, are those of CelebA's labels in Kocaoglu et al., "CausalGAN: Learning Causal Implicit Generative
Models with Adversarial Training" (2018), `big_causal_graph` of its code, where old is "not Young". male -> beard stands
for its Male -> Mustache: beards grow with male hormones. male -> earrings, like lipstick, is custom, and was put in
here. That graph has more edges; they are left out, so that blond, bangs and hat are alone. Every attribute decides the
image: its generator draws what it is told, and from the sitter alone, who is the image's exogenous noise.
"""

from causalcf.graph import CausalGraph
from causalcf.variables import Binary, Image

graph = CausalGraph(
    """
    smiling -> mouth_open
    male -> beard, lipstick, earrings
    old -> eyeglasses
    male, old, smiling, blond, bangs, hat, mouth_open, beard, lipstick, earrings, eyeglasses -> image
    """,
    male=Binary(),
    old=Binary(),
    smiling=Binary(),
    blond=Binary(),
    bangs=Binary(),
    hat=Binary(),
    mouth_open=Binary(),
    beard=Binary(),
    lipstick=Binary(),
    earrings=Binary(),
    eyeglasses=Binary(),
    image=Image(3, 64, 64),
)
