"""Import our packages before pytest collects a module of theirs, and seed every test.

It would load such a module once itself and once through its package, and the classes of the one copy are not
those of the other: `isinstance(Continuous(), Variable)` would be false.
"""

import importlib
import pkgutil

import pytest
import torch

import causalcf

for module in pkgutil.iter_modules(causalcf.__path__, "causalcf."):
    if module.ispkg:
        importlib.import_module(module.name)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Networks that a test makes without a seed of its own have the same weights every time."""
    torch.manual_seed(0)
