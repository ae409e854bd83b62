"""`python -m pertexp.run`: compose, prepare, fit, evaluate, write."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from pertexp.config.cli import config_folder, guarded, is_first_process, no_folder_for_a_wrong_request, one_sentence
from pertexp.runs.naming import sweep_name

if TYPE_CHECKING:
    from pertexp.evaluation.contract import Report

log = logging.getLogger(__name__)

SWEEP = "PERTEXP_SWEEP"
MULTIRUN = ("-m", "--multirun")


def job(config: DictConfig) -> float | None:
    """One run: returns the model's mean on the primary metric, for those who optimise over runs."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from pertexp.sweep import job_of_sweep

        return job_of_sweep(lambda: _value(run(config, folder)), folder)
    with one_sentence(), no_folder_for_a_wrong_request(folder):
        return _value(run(config, folder))


def run(config: DictConfig, folder: Path) -> "Report | None":
    """Compose, prepare, fit, evaluate, write. None on the processes of a distributed run other than the first."""
    from rich.console import Console

    from pertexp.models.samples import write_samples
    from pertexp.preparing import prepare
    from pertexp.runs.record import write_record
    from pertexp.runs.repeating import repeated_config
    from pertexp.tasks.registry import task_of_report
    from pertexp.training.fit import fit
    from pertexp.training.loggers import closing_wandb

    if config.repeat is not None:
        config = repeated_config(config, folder)
    console = Console(width=None if sys.stdout.isatty() else max(100, Console().width), markup=False)
    if is_first_process():
        _show_config(config, console)
    with closing_wandb():
        data, model, trainer, evaluation = prepare(config)
        if trainer.is_global_zero:
            write_record(folder, data.design)
        validation = fit(model, data, trainer, config.ckpt_path)
        if not trainer.is_global_zero:
            return None
        report = evaluation(data, model, config.model.name).with_validation(validation)
        write_samples(model, data.design, config.seed, folder)
        report.write(folder)
        for logger in trainer.loggers:
            logger.log_metrics({f"test/{name}": value for name, value in report.metrics.means.items()})
    task = task_of_report(report)
    for block in task.console(report, f"{config.model.name} on {config.data.name}, fold {data.design.split.fold}"):
        console.print(block, highlight=False)
    console.print(f"written to {folder}", highlight=False, soft_wrap=True)
    console.print(f"page: {task.write_page(folder)}", highlight=False, soft_wrap=True)
    return report


def _show_config(config: DictConfig, console: Any) -> None:
    from rich.syntax import Syntax

    if config.print_config is True:
        console.print(Syntax(OmegaConf.to_yaml(config), "yaml", background_color="default", word_wrap=True))
    tags = f" [{', '.join(map(str, config.tags))}]" if OmegaConf.is_list(config.tags) and config.tags else ""
    log.info("model=%s data=%s seed=%s%s", config.model.name, config.data.name, config.seed, tags)


def _value(report: "Report | None") -> float | None:
    return None if report is None else report.metrics.value


@guarded
def main() -> None:
    """The command."""
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in MULTIRUN)  # argparse wants no words on both sides
    os.environ[SWEEP] = sweep_name(sys.argv[1:])  # in the environment, so that the jobs of any launcher know it
    hydra.main(config_path=config_folder(), config_name="run", version_base="1.3")(job)()


if __name__ == "__main__":
    from pertexp.run import main as installed  # under its own name, so that launchers can pickle the job

    installed()
