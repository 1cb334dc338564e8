"""Drawn mammograms: age, density, a mass, and what was put on the skin.

- age -> density: glands give way to fat with age (Checka et al., 2012, The Relationship of Mammographic Density and
  Age, https://doi.org/10.2214/AJR.10.6049).
- age -> mass: cancer is more frequent in older women (Siegel et al., Cancer Statistics, yearly).
- mass -> triangle: technologists mark what can be felt with a triangle, and moles with a circle, by custom (the markers
  are those labelled in https://github.com/biomedia-mira/mammo-artifacts).
- density, mass, circle, triangle -> image: its generator draws these, and of age nothing but what they say.

Of real women density is said to cause cancer as well; that edge is left out, so that it can be looked for in vain.
"""

from causalcf.graph import CausalGraph
from causalcf.variables import Binary, Continuous, Image

graph = CausalGraph(
    "age -> density, mass; mass -> triangle; density, mass, circle, triangle -> image",
    age=Continuous(lower=40.0, upper=80.0, unit="years"),
    density=Continuous(lower=0.0, upper=100.0, unit="%"),
    mass=Binary(),
    circle=Binary(),
    triangle=Binary(),
    image=Image(1, 64, 64),
)
