"""Data sets: readers of official layouts, and generators whose true causal model is known."""

from causalcf.data.celeba import CelebA as CelebA
from causalcf.data.celeba import CelebAHQ as CelebAHQ
from causalcf.data.embed import EMBED as EMBED
from causalcf.data.flow import Flow as Flow
from causalcf.data.folder import Folder as Folder
from causalcf.data.mammophantom import MammoPhantom as MammoPhantom
from causalcf.data.morphodigits import MorphoDigits as MorphoDigits
from causalcf.data.morphomnist import MorphoMNIST as MorphoMNIST
from causalcf.data.pendulum import Pendulum as Pendulum
from causalcf.data.toyfaces import ToyFaces as ToyFaces
