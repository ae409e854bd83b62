"""Screens: cells × genes under perturbation."""

from functools import partial

from pertexp.data.screens.datamodule import ScreenData
from pertexp.data.screens.design import Design
from pertexp.evaluation.screens.calibrating import calibration_scores
from pertexp.evaluation.screens.evaluation import ScoredScreenRun, ScreenEvaluation
from pertexp.evaluation.screens.external_scoring import score_external
from pertexp.evaluation.screens.impact import ImpactFrame
from pertexp.evaluation.screens.results import ScreenResults
from pertexp.inference import screens
from pertexp.inference.predicting import Predicting
from pertexp.inference.restoring import restore_screens
from pertexp.inference.trained import restorable_screens
from pertexp.models.samples import write_samples
from pertexp.report.page import RunPage
from pertexp.report.screens.console import render_calibration, run_console
from pertexp.report.screens.reading import read_screen
from pertexp.report.screens.sections import SECTIONS
from pertexp.report.screens.settings import ScreenSettings
from pertexp.runs.schema import ScreenMetrics
from pertexp.tasks.base import Calibration, Evaluator, Task

SCREENS: Task[ScreenData, Design, ScreenEvaluation, ScoredScreenRun] = Task(
    name="screens",
    metrics=ScreenMetrics,
    results=ScreenResults,
    page=RunPage(read_screen, SECTIONS),
    evaluators={
        "profile": Evaluator(
            "evaluation=core",
            Predicting("a screen", screens.ProfileOptions, (".h5ad",), screens.answer),
            score_external,
        ),
        "impact": Evaluator(
            "evaluation=impact",
            Predicting("impacts in a screen", screens.ImpactOptions, (".h5ad",), screens.impacts),
            score_external,
            partial(read_screen, frame_type=ImpactFrame),
        ),
    },
    console=run_console,
    settings_text=ScreenSettings(),
    restorable=restorable_screens,
    restore=restore_screens,
    data_advice="data=norman_mini or data=screen",
    model_advice="model=nbglm evaluation=core",
    calibration=Calibration(calibration_scores, render_calibration),
    write_samples=write_samples,
)
