"""One run: prepare, fit, evaluate, write, show."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from pertexp.config.cli import is_first_process

if TYPE_CHECKING:
    from rich.console import Console

    from pertexp.evaluation.contract import ScoredRun
    from pertexp.experiment.showing import Evaluated

log = logging.getLogger("pertexp.run")  # the command, as users know it


def run(config: DictConfig, folder: Path) -> "ScoredRun | None":
    """Prepare, fit, evaluate, write, show. None on the processes of a distributed run other than the first."""
    from pertexp.experiment.showing import console, show
    from pertexp.runs.repeating import repeated_config

    if config.repeat is not None:
        config = repeated_config(config, folder)
    shown = console()
    if is_first_process():
        _show_config(config, shown)
    evaluated = _fit_and_score(config, folder)
    if evaluated is None:
        return None
    show(evaluated, folder, shown)
    return evaluated.scored


def _fit_and_score(config: DictConfig, folder: Path) -> "Evaluated | None":
    """Write the record of the data, train, and write the scores."""
    from pertexp.experiment.preparing import prepare
    from pertexp.experiment.showing import Evaluated
    from pertexp.runs.record import write_record
    from pertexp.tasks.registry import task_of_scored_run
    from pertexp.training.fit import fit
    from pertexp.training.loggers import closing_wandb

    with closing_wandb():
        data, model, trainer, evaluation = prepare(config)
        if trainer.is_global_zero:
            write_record(folder, data.design)
        validation = fit(model, data, trainer, config.ckpt_path)
        if not trainer.is_global_zero:
            return None
        scored = evaluation(data, model, config.model.name).with_validation(validation)
        task = task_of_scored_run(scored)
        if task.write_samples is not None:
            task.write_samples(model, data.design, config.seed, folder)
        scored.write(folder)
        for logger in trainer.loggers:
            logger.log_metrics({f"test/{name}": value for name, value in scored.metrics.means.items()})
    title = f"{config.model.name} on {config.data.name}, fold {data.design.split.fold}"
    return Evaluated(scored, data.design, title)


def _show_config(config: DictConfig, shown: "Console") -> None:
    from rich.syntax import Syntax

    if config.print_config is True:
        shown.print(Syntax(OmegaConf.to_yaml(config), "yaml", background_color="default", word_wrap=True))
    tags = f" [{', '.join(map(str, config.tags))}]" if OmegaConf.is_list(config.tags) and config.tags else ""
    log.info("model=%s data=%s seed=%s%s", config.model.name, config.data.name, config.seed, tags)
