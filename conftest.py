"""Import our packages before pytest collects a module of theirs.

It would load such a module once itself and once through its package, and the classes of the one copy are not
those of the other: `isinstance(Continuous(), Variable)` would be false.
"""

import importlib
import pkgutil

import causalcf

for module in pkgutil.iter_modules(causalcf.__path__, "causalcf."):
    if module.ispkg:
        importlib.import_module(module.name)
