"""Pictures: matplotlib figures, apart from pyplot's global state."""

from causalcf.plot.graph import graph as graph
