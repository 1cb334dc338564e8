"""Pictures: matplotlib figures, apart from pyplot's global state."""

from causalcf.plot.effects import effects as effects
from causalcf.plot.graph import graph as graph
from causalcf.plot.worlds import worlds as worlds
