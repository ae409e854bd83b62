"""What an evaluation of pairs takes and refuses."""

import pytest

from pertexp.config.errors import MismatchError, RequestError
from pertexp.evaluation.pairs.evaluation import PairEvaluation
from pertexp.models.baselines.pairs import Distance


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"primary": "auc"}, "evaluation.primary=auc is no metric of this evaluation"),
        *(({name: 0}, f"evaluation.{name}=0: expected at least 1") for name in ("n_resamples", "n_draws", "n_train")),
        ({"baselines": {"distance": 3}}, "evaluation.baselines.distance=3 is no baseline"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused(options, said):
    with pytest.raises(RequestError, match=said):
        PairEvaluation(**options)


def test_an_evaluation_at_the_ends_of_what_can_be():
    PairEvaluation(primary="brier", n_resamples=1, n_draws=1, n_train=1, baselines={"distance": Distance()})


def test_a_model_that_predicts_no_pairs_is_refused():
    with pytest.raises(MismatchError, match="mine predicts no pairs"):
        PairEvaluation().require_model(None, object(), "mine")
    with pytest.raises(MismatchError, match="mine predicts no pairs"):
        PairEvaluation()(None, object(), "mine")
