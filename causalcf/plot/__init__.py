"""Pictures: matplotlib figures, apart from pyplot's global state."""

from causalcf.plot.effects import effects as effects
from causalcf.plot.explanations import explanations as explanations
from causalcf.plot.graph import graph as graph
from causalcf.plot.worlds import worlds as worlds
