"""Pairs: enhancer-promoter pairs observed in several cell lines."""

from pertexp.data.pairs.datamodule import PairData
from pertexp.data.pairs.design import PairDesign
from pertexp.evaluation.pairs.evaluation import PairEvaluation
from pertexp.evaluation.pairs.results import PairResults
from pertexp.evaluation.pairs.scored_run import ScoredPairRun
from pertexp.inference import pairs
from pertexp.inference.predicting import Predicting
from pertexp.inference.restoring import restore_pairs
from pertexp.inference.trained import restorable_pairs
from pertexp.report.page import RunPage
from pertexp.report.pairs.console import run_console
from pertexp.report.pairs.reading import read_pairs
from pertexp.report.pairs.sections import SECTIONS
from pertexp.report.pairs.settings import PairSettings
from pertexp.runs.schema import PairMetrics
from pertexp.tasks.base import Evaluator, Task

PAIRS: Task[PairData, PairDesign, PairEvaluation, ScoredPairRun] = Task(
    name="pairs",
    metrics=PairMetrics,
    results=PairResults,
    page=RunPage(read_pairs, SECTIONS),
    evaluators={
        "probability": Evaluator(
            "evaluation=pairs", Predicting("pairs", pairs.PairOptions, tuple(pairs.WRITERS), pairs.answer)
        )
    },
    console=run_console,
    settings_text=PairSettings(),
    restorable=restorable_pairs,
    restore=restore_pairs,
    data_advice="data=ep_pairs or data=simulated_pairs",
    model_advice="model=prism",
)
