"""Another tool's predictions, or a checkpoint, scored without training."""

from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pertexp.config.errors import RequestError
from pertexp.config.search_path import SearchPath
from pertexp.experiment.showing import Evaluated

if TYPE_CHECKING:
    from pertexp.data.contract import RunData
    from pertexp.evaluation.contract import RunEvaluation, ScoredRun

NAMED = "pertexp.data.screens.splits.NamedTest"


def run(config: DictConfig, folder: Path) -> "ScoredRun":
    """Score a checkpoint or a file of predictions; write and show what a run writes and shows."""
    from pertexp.experiment.showing import console, show
    from pertexp.runs.record import write_record

    _check_values(config)
    evaluated = _predictions(config, folder) if config.ckpt is None else _checkpoint(config, folder)
    write_record(folder, evaluated.design)
    evaluated.scored.write(folder)
    show(evaluated, folder, console())
    return evaluated.scored


def _checkpoint(config: DictConfig, folder: Path) -> Evaluated:
    """Return the test units of the run that wrote the checkpoint, on its own data, split and fold."""
    from pertexp.config.instantiate import build
    from pertexp.inference.trained import require_same_data
    from pertexp.runs.record import save_config, saved_config
    from pertexp.tasks.registry import require_fit, require_model, restore

    trained = restore(config.ckpt, SearchPath.of_command())
    saved = saved_config(str(trained.run))
    chosen = _evaluation_of_run(config, saved)
    evaluation: RunEvaluation = build(chosen, "evaluation")
    data: RunData = build(saved.data, "data")
    names = {"data": saved.data.name, "model": trained.name, "evaluation": _chosen_evaluation()}
    require_fit(data, evaluation, saved.model._target_, names)
    evaluation.require(data)
    require_model(data, evaluation, trained.model, names)
    require_same_data(trained, data.design)
    scored = evaluation(data, trained.model, trained.name)
    save_config(OmegaConf.create({**saved, "evaluation": chosen, "ckpt_path": config.ckpt}), folder)
    return Evaluated(scored, data.design, f"{trained.name} on {saved.data.name}, fold {data.design.split.fold}")


def _evaluation_of_run(config: DictConfig, saved: DictConfig) -> DictConfig:
    """Return the evaluation of the run, with the values that were typed below it; another where a choice was typed."""
    words = [word for word in HydraConfig.get().overrides.task if word.lstrip("+~").startswith("evaluation")]
    changed = [word.partition("=")[0] for word in words if word.startswith("evaluation.")]
    if len(changed) < len(words):
        typed: DictConfig = config.evaluation
        return typed
    own = saved.copy()
    for name in changed:
        OmegaConf.update(own, name, OmegaConf.select(config, name))
    evaluation: DictConfig = own.evaluation
    return evaluation


def _predictions(config: DictConfig, folder: Path) -> Evaluated:
    """Return what a file predicts, against the truth of the data; the split that was used is put on record."""
    from pertexp.config.errors import MismatchError
    from pertexp.config.instantiate import build
    from pertexp.data.screens.splits import NamedTest
    from pertexp.runs.record import save_config
    from pertexp.tasks.registry import TASKS, require_task

    evaluation: RunEvaluation = build(config.evaluation, "evaluation")
    task = TASKS[evaluation.task]
    external = task.evaluators[evaluation.scores_output].external
    if external is None:
        raise MismatchError(
            f"predictions of another tool cannot be scored for {task.name}: type evaluation=core, vcc2026 or cell_eval "
            "for predictions of screens; a run is scored with ckpt=<run folder>."
        )
    data: RunData = build(config.data, "data")
    require_task(data, evaluation, {"data": config.data.name, "evaluation": _chosen_evaluation()})
    scored, design = external(
        data,
        evaluation,
        path=config.pred,
        scale=config.pred_scale,
        name=config.pred_name,
        depth=config.pred_depth,
        choices=task.choices,
        shared=config.genes == "shared",
        by_split=any(word.startswith(("data/split=", "data.split.")) for word in HydraConfig.get().overrides.task),
    )
    if isinstance(data.split, NamedTest):
        OmegaConf.update(config, "data.split", {"_target_": NAMED, "test": list(data.split.test)}, merge=False)
        save_config(config, folder)
    return Evaluated(scored, design, f"{scored.metrics.model} on {config.data.name}")


def _chosen_evaluation() -> str:
    return str(HydraConfig.get().runtime.choices.get("evaluation"))


def _check_values(config: DictConfig) -> None:
    from typing import Annotated, Literal

    from pydantic import Field

    from pertexp.config.instantiate import check_node
    from pertexp.config.validate import check_type
    from pertexp.evaluation.screens.external import PredictionScale

    hints: dict[str, object] = {
        "truth": str | None,
        "pred": str | None,
        "pred_name": str | None,
        "pred_scale": PredictionScale | None,
        "pred_depth": Annotated[float, Field(gt=0)] | None,
        "genes": Literal["refuse", "shared"],
        "ckpt": str | None,
        "seed": int,
    }
    for name, hint in hints.items():
        check_type(hint, config[name], name)
    if (config.pred is None) == (config.ckpt is None):
        raise RequestError(
            "type pred=any_tool.h5ad with truth=real.h5ad (or data=...), or ckpt=outputs/runs/<date>/<run>: one."
        )
    typed = HydraConfig.get().overrides.task
    conflicting = [word for word in typed if word.startswith(("truth", "data", "pred_", "genes"))]
    if config.ckpt is not None and conflicting:
        raise RequestError(
            f"a checkpoint is scored on the data, the split and the fold of its own run, but {conflicting[0]} was "
            "given too: "
            "remove it, or predict that file with pertexp.predict and score the predictions with pred=..."
        )
    if config.truth is not None:
        OmegaConf.update(config, "data.path", config.truth)
    check_node(config.evaluation, "evaluation")
    if config.pred is not None:
        check_node(config.data, "data")
