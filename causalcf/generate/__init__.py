"""Counterfactuals of whole data sets: into a folder, part by part, to be read as data sets themselves."""

from causalcf.generate.bulk import counterfactuals as counterfactuals
from causalcf.generate.generated import Answers as Answers
from causalcf.generate.generated import Generated as Generated
