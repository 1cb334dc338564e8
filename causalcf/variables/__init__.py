"""What a node of a causal graph can be: its shape, its support and its unit."""

from typing import Any

from causalcf.variables.continuous import Continuous as Continuous
from causalcf.variables.discrete import Binary as Binary
from causalcf.variables.discrete import Categorical as Categorical
from causalcf.variables.discrete import Discrete as Discrete
from causalcf.variables.image import Image as Image
from causalcf.variables.variable import Variable as Variable


def variable_from_config(config: dict[str, Any]) -> Variable:
    """The variable that :meth:`Variable.to_config` described.

    Raises:
        ValueError: If the type is unknown.

    Example:
        >>> variable_from_config({"type": "Image", "channels": 1, "height": 28, "width": 28})
        Image(channels=1, height=28, width=28)
    """
    kinds: dict[str, type[Variable]] = {kind.__name__: kind for kind in (Continuous, Binary, Categorical, Image)}
    fields = dict(config)
    name = fields.pop("type", None)
    if name not in kinds:
        raise ValueError(
            f'variable type: expected one of {", ".join(kinds)}, got {name!r}; write {{"type": "Binary"}}, for example'
        )
    return kinds[name](**fields)
