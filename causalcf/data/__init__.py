"""Data sets: readers of official layouts, and generators whose true causal model is known."""

from causalcf.data.flow import Flow as Flow
from causalcf.data.folder import Folder as Folder
from causalcf.data.morphodigits import MorphoDigits as MorphoDigits
from causalcf.data.morphomnist import MorphoMNIST as MorphoMNIST
from causalcf.data.pendulum import Pendulum as Pendulum
from causalcf.data.toyfaces import ToyFaces as ToyFaces
