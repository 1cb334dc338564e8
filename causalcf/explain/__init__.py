"""Explaining classifiers by counterfactual images: each method a row of parts of the one engine."""

from causalcf.explain.ace import ACE as ACE
from causalcf.explain.agreed import Agreed as Agreed
from causalcf.explain.attributes import Changes as Changes
from causalcf.explain.attributes import changes as changes
from causalcf.explain.bulk import explain_all as explain_all
from causalcf.explain.dime import DiME as DiME
from causalcf.explain.explainer import Explainer as Explainer
from causalcf.explain.explanation import Explanation as Explanation
from causalcf.explain.fastdime import FastDiME as FastDiME
from causalcf.explain.generators import Generator as Generator
from causalcf.explain.gradients import IntegratedGradients as IntegratedGradients
from causalcf.explain.gradients import Led as Led
from causalcf.explain.gradients import SmoothGrad as SmoothGrad
from causalcf.explain.ldce import LDCE as LDCE
from causalcf.explain.maskdime import MaskDiME as MaskDiME
from causalcf.explain.page import page as page
from causalcf.explain.queries import label as label
from causalcf.explain.record import record as record
from causalcf.explain.repairs import Repair as Repair
from causalcf.explain.repairs import gain as gain
from causalcf.explain.repairs import repair as repair
from causalcf.explain.sce import SCE as SCE
from causalcf.explain.sce_lite import SCELiteHQ as SCELiteHQ
from causalcf.explain.sce_lite import Told as Told
