"""`python -m pertexp.calibrate`: how reliable every metric is on a data set."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pertexp.config.cli import guarded, no_folder_for_a_wrong_request, one_message
from pertexp.config.search_path import config_folder

if TYPE_CHECKING:
    from pertexp.data.contract import RunData
    from pertexp.evaluation.contract import CalibrationScores, RunEvaluation


def calibrated_data(*, _root_: DictConfig) -> str:
    """Name of the data: part of the name of the folder."""
    return str(_root_.data.name)


OmegaConf.register_new_resolver("calibrated_data", calibrated_data, replace=True)


def job(config: DictConfig) -> None:
    """Measure, show, write."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    with one_message(), no_folder_for_a_wrong_request(folder):
        run(config, folder)


def run(config: DictConfig, folder: Path) -> "CalibrationScores":
    """Return the replicate against the predictions that know nothing, over all folds."""
    from functools import partial

    from rich.progress import track

    from pertexp.config.errors import MismatchError
    from pertexp.config.instantiate import build, check_node
    from pertexp.experiment.showing import console
    from pertexp.tasks.registry import require_task

    for group in ("data", "evaluation"):
        check_node(config[group], group)
    evaluation: RunEvaluation = build(config.evaluation, "evaluation")
    data: RunData = build(config.data, "data")
    chosen = str(HydraConfig.get().runtime.choices.get("evaluation"))
    task = require_task(data, evaluation, {"data": config.data.name, "evaluation": chosen})
    if task.calibration is None:
        raise MismatchError(
            f"metrics of {task.name} cannot be calibrated, without a replicate: type data=norman_mini evaluation=core."
        )
    progress = partial(track, description="folds", disable=not sys.stdout.isatty())
    scores = task.calibration.measure(data, evaluation, progress)
    scores.write_calibration(folder, config.data.name)
    shown = console()
    shown.print(task.calibration.console(scores, f"metrics on {config.data.name}"))
    shown.print(f"written to {folder}", highlight=False, soft_wrap=True)
    return scores


@guarded
def main() -> None:
    """Run the command."""
    hydra.main(config_path=config_folder(), config_name="calibrate", version_base="1.3")(job)()


if __name__ == "__main__":
    main()
