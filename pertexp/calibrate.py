"""`python -m pertexp.calibrate`: how far every metric is to be trusted on a data set."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pertexp.door import config_folder, guarded, no_folder_for_a_wrong_request, one_sentence

if TYPE_CHECKING:
    from pertexp.evaluation.screens.scoring import Scores


def calibrated_data(*, _root_: DictConfig) -> str:
    """Name of the data: part of the name of the folder."""
    return str(_root_.data.name)


OmegaConf.register_new_resolver("calibrated_data", calibrated_data, replace=True)


def job(config: DictConfig) -> None:
    """Measure, show, write."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    with one_sentence(), no_folder_for_a_wrong_request(folder):
        run(config, folder)


def run(config: DictConfig, folder: Path) -> "Scores":
    """The replicate against the predictions that know nothing, over all folds."""
    from rich.console import Console
    from rich.progress import track

    from pertexp.composition import build, check_node
    from pertexp.data.screens.design import build_folds
    from pertexp.evaluation.screens.evaluation import require_screens
    from pertexp.evaluation.screens.measuring import pooled
    from pertexp.evaluation.screens.scoring import Scores
    from pertexp.report.screens.console import render_calibration

    for group in ("data", "evaluation"):
        check_node(config[group], group)
    evaluation = require_screens(build(config.evaluation, "evaluation"))
    data = build(config.data, "data")
    evaluation.require_kind(data)
    screen = data.read()
    measured = [
        evaluation.measure_negatives(design)
        for design in track(build_folds(screen, data), "folds", disable=not sys.stdout.isatty())
    ]
    scores = Scores.of(pooled(measured), evaluation.primary, evaluation.n_resamples, evaluation.seed)
    scores.write_calibration(folder, config.data.name)
    console = Console(width=None if sys.stdout.isatty() else max(100, Console().width), markup=False)
    console.print(render_calibration(scores, f"metrics on {config.data.name}"))
    console.print(f"written to {folder}", highlight=False, soft_wrap=True)
    return scores


@guarded
def main() -> None:
    """The command."""
    hydra.main(config_path=config_folder(), config_name="calibrate", version_base="1.3")(job)()


if __name__ == "__main__":
    main()
