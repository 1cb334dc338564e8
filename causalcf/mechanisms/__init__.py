"""Mechanisms: what turns noise and parents into a value, and back."""

from causalcf.mechanisms.base import Mechanism as Mechanism
from causalcf.mechanisms.base import Recipe as Recipe
from causalcf.mechanisms.causal_vae import CausalVAE as CausalVAE
from causalcf.mechanisms.diff_scm import DiffSCM as DiffSCM
from causalcf.mechanisms.diffusion import Diffusion as Diffusion
from causalcf.mechanisms.discrete import Binary as Binary
from causalcf.mechanisms.discrete import Categorical as Categorical
from causalcf.mechanisms.dynamic import DynamicDiffusion as DynamicDiffusion
from causalcf.mechanisms.flow import Flow as Flow
from causalcf.mechanisms.functional import Functional as Functional
from causalcf.mechanisms.gaussian import Gaussian as Gaussian
from causalcf.mechanisms.nscm import NSCMDiffusion as NSCMDiffusion
from causalcf.mechanisms.semantic import SemanticDiffusion as SemanticDiffusion
from causalcf.mechanisms.spatial import SpatialDiffusion as SpatialDiffusion
from causalcf.mechanisms.vae import HVAE as HVAE
from causalcf.mechanisms.vae import VAE as VAE
