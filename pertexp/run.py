"""`python -m pertexp.run`: compose, prepare, fit, evaluate, write."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pertexp.config.cli import guarded, no_folder_for_a_wrong_request, one_message
from pertexp.config.search_path import config_folder
from pertexp.runs.naming import sweep_name

if TYPE_CHECKING:
    from pertexp.evaluation.contract import ScoredRun

SWEEP_VARIABLE = "PERTEXP_SWEEP"
MULTIRUN = ("-m", "--multirun")


def job(config: DictConfig) -> float | None:
    """One run, or one job of a sweep; return the model's mean on the primary metric, for optimisation over runs."""
    from pertexp.experiment.running import run

    folder = Path(HydraConfig.get().runtime.output_dir)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from pertexp.experiment import jobs

        return jobs.job_of_sweep(lambda: _value(run(config, folder)), folder)
    with one_message(), no_folder_for_a_wrong_request(folder):
        return _value(run(config, folder))


def _value(report: "ScoredRun | None") -> float | None:
    return None if report is None else report.metrics.value


@guarded
def main() -> None:
    """Run the command."""
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in MULTIRUN)  # argparse wants no words on both sides
    os.environ[SWEEP_VARIABLE] = sweep_name(sys.argv[1:])  # in the environment, for the jobs of any launcher
    hydra.main(config_path=config_folder(), config_name="run", version_base="1.3")(job)()


if __name__ == "__main__":
    from pertexp.run import main as installed  # under its own name, so that launchers can pickle the job

    installed()
