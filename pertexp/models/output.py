"""What a model predicts, as it declares it; an evaluation scores one of these, and refuses the others."""

from typing import Literal

# profile: `[U, G]` mean expression of perturbations, on the scale of the data.
# impact: `[U, G]` non-negative score, larger where a perturbation moves a gene more.
# probability: `[n]` chance that a pair interacts.
Output = Literal["profile", "impact", "probability"]
