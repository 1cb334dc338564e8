"""Whether to believe the answers: soundness metrics and the report that gathers them."""

from causalcf.metrics.composition import Composition as Composition
from causalcf.metrics.effectiveness import Effectiveness as Effectiveness
from causalcf.metrics.identity import Identity as Identity
from causalcf.metrics.minimality import Minimality as Minimality
from causalcf.metrics.moments import NoiseMoments as NoiseMoments
from causalcf.metrics.realism import Frechet as Frechet
from causalcf.metrics.report import Report as Report
from causalcf.metrics.report import evaluate as evaluate
from causalcf.metrics.reversibility import Reversibility as Reversibility
from causalcf.metrics.steps import evaluate_sequence as evaluate_sequence
from causalcf.metrics.tally import Estimate as Estimate
from causalcf.metrics.tally import Tally as Tally
from causalcf.metrics.truth import CounterfactualError as CounterfactualError
