"""Mammograms: age and scanner, density of the breast, and markers on the skin.

- age -> density: glands give way to fat with age (Checka et al., 2012, The Relationship of Mammographic Density and
  Age, https://doi.org/10.2214/AJR.10.6049).
- scanner, density -> image: what a detector and its processing make of glands and fat; density is read off the image.
- circle, triangle -> image: markers of moles and of what was felt, which are put on the skin and show (Schueppert et
  al., 2025, labels in https://github.com/biomedia-mira/mammo-artifacts; removed by do(circle=0) and do(triangle=0) in
  Rasal et al., "Diffusion Counterfactual Generation with Semantic Abduction", 2025).

That age alters nothing in the image but density, and that markers are put on whoever has a mole, of any age, is an
assumption to look at; so is that a hospital's scanners see the same women.
"""

from causalcf.graph import CausalGraph
from causalcf.variables import Binary, Categorical, Continuous, Image

SCANNERS = ("Selenia Dimensions", "Senographe Pristina", "Senograph 2000D", "Lorad Selenia", "Clearview CSm")
graph = CausalGraph(
    "age -> density; scanner, density, circle, triangle -> image",
    age=Continuous(lower=0.0, unit="years"),
    density=Categorical(names=("a", "b", "c", "d")),
    scanner=Categorical(names=(*SCANNERS, "Senographe Essential")),
    circle=Binary(),
    triangle=Binary(),
    image=Image(1, 192, 192),
)
