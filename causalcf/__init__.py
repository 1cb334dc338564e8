"""Structural causal models for images: declare a graph, fit it, ask counterfactual questions, measure the answers."""

from causalcf import explain as explain
from causalcf import generate as generate
from causalcf import mechanisms as mechanisms
from causalcf import metrics as metrics
from causalcf import plot as plot
from causalcf import testing as testing
from causalcf.assignments import Intervention as Intervention
from causalcf.effects import Effects as Effects
from causalcf.effects import decompose as decompose
from causalcf.graph import CausalGraph as CausalGraph
from causalcf.interventions import Do as Do
from causalcf.interventions import do as do
from causalcf.interventions import resample as resample
from causalcf.interventions import scale as scale
from causalcf.interventions import shift as shift
from causalcf.mechanisms import Mechanism as Mechanism
from causalcf.mechanisms import Recipe as Recipe
from causalcf.metrics import evaluate as evaluate
from causalcf.pretrained import load_pretrained as load_pretrained
from causalcf.scm import SCM as SCM
from causalcf.sequences import sequence as sequence
from causalcf.training.discovery import discover as discover
from causalcf.tuning import fine_tune as fine_tune
from causalcf.variables import Binary as Binary
from causalcf.variables import Categorical as Categorical
from causalcf.variables import Continuous as Continuous
from causalcf.variables import Image as Image
from causalcf.variables import Variable as Variable
from causalcf.world import World as World

__version__ = "0.1.0"
