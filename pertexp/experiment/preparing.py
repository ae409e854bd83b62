"""Build data, model, trainer and evaluation of a run, and check that they fit together before training."""

import logging
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pertexp.config.cli import is_first_process
from pertexp.config.errors import RequestError

if TYPE_CHECKING:
    from lightning import Callback, LightningModule, Trainer

    from pertexp.data.contract import RunData
    from pertexp.evaluation.contract import RunEvaluation
    from pertexp.training.stages import Stages

SETTING = ("model", "data", "loss", "optimizer", "scheduler", "stages")


class Prepared(NamedTuple):
    """Data, model, trainer and evaluation of a run, built and checked."""

    data: "RunData"
    model: "LightningModule"
    trainer: "Trainer"
    evaluation: "RunEvaluation"


def prepare(config: DictConfig) -> Prepared:
    """Build data, model, trainer and evaluation, and refuse what does not fit before anything is trained."""
    import lightning

    from pertexp import threads
    from pertexp.config.checks import check_values, fitting
    from pertexp.config.instantiate import build, build_group
    from pertexp.experiment.loss_choices import naming_losses_that_fit
    from pertexp.runs.record import schema
    from pertexp.tasks.registry import require_fit, require_model
    from pertexp.training.checkpoints import EpochClock, RandomState, SchemaStamp, begin_from, require_resumable
    from pertexp.training.stages import warn_without_stages

    _quieten()
    check_values(config)
    _require_threads(config)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    data: RunData = build(config.data, "data")
    loss = build(config.loss, "loss")
    evaluation: RunEvaluation = build(config.evaluation, "evaluation")
    optimizer, scheduler = build(config.optimizer, "optimizer"), build(config.scheduler, "scheduler")
    stages: Stages = build(config.stages, "stages")
    callbacks = build_group(config.get("callbacks"), "callbacks")
    loggers = list(build_group(config.get("logger"), "logger").values())
    task = require_fit(data, evaluation, config.model._target_, _names(config))
    stamp = SchemaStamp(
        lambda: schema(data.design), lambda: task.restorable(data.design, *plain_parts(config)), setting(config)
    )
    own = [stages, EpochClock(), RandomState(), stamp]
    trainer: Trainer = build(config.trainer, "trainer", callbacks=[*callbacks.values(), *own], logger=loggers)
    threads.settle(trainer.num_devices)
    _require_validation(data, callbacks)
    evaluation.require(data)
    with fitting("model"), naming_losses_that_fit():
        make_model = build(config.model, "model")
        model: LightningModule = make_model(data=data, loss=loss, optimizer=optimizer, scheduler=scheduler)
    require_model(data, evaluation, model, _names(config))
    _require_optimizer(model)
    stages.require(model, trainer)
    warn_without_stages(model, stages)
    if config.ckpt_path is not None:
        require_resumable(config.ckpt_path, model, schema(data.design), setting(config))
    elif stages.start is not None:
        begin_from(model, stages.start, schema(data.design), setting(config)["model"])
    for logger in loggers:
        logger.log_hyperparams(OmegaConf.to_container(config, resolve=True))
    return Prepared(data, model, trainer, evaluation)


def _names(config: DictConfig) -> dict[str, str]:
    """Return data, evaluation and model as they were typed."""
    evaluation = HydraConfig.get().runtime.choices.get("evaluation")
    return {"data": config.data.name, "evaluation": str(evaluation), "model": config.model.name}


def plain_parts(config: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the configurations of model and data as plain values, interpolations resolved."""
    model, data = (dict(OmegaConf.to_container(node, resolve=True)) for node in (config.model, config.data))  # type: ignore[arg-type]
    return model, data


def setting(config: DictConfig) -> dict[str, Any]:
    """Return what the numbers of training hang on, as plain values: other callbacks or devices may resume a run."""
    return {"seed": config.seed, **{name: OmegaConf.to_container(config[name], resolve=True) for name in SETTING}}


def _require_threads(config: DictConfig) -> None:
    """Compute with as many threads as the run that is resumed; RequestError where there are too few cores."""
    from pertexp import threads
    from pertexp.training.checkpoints import read_checkpoint

    if config.ckpt_path is not None:
        threads.same_as(read_checkpoint(config.ckpt_path).get("threads"), config.ckpt_path)


def _require_validation(data: "RunData", callbacks: dict[str, "Callback"]) -> None:
    watching = {name: monitor for name, one in callbacks.items() if (monitor := getattr(one, "monitor", None))}
    if not watching or data.has_validation:
        return
    other = "a larger data.split.val_fraction" if hasattr(data.split, "val_fraction") else "another data.split.fold"
    raise RequestError(
        f"callbacks.{' and callbacks.'.join(watching)} watch {' and '.join(dict.fromkeys(watching.values()))}, but the "
        f"split holds no validation unit: type {other}, or {' '.join(f'~callbacks.{name}' for name in watching)} to "
        "keep the last epoch."
    )


def _require_optimizer(model: "LightningModule") -> None:
    """Optimizer and scheduler take their values only with parameters in hand, as when training begins."""
    try:
        model.configure_optimizers()
    except (TypeError, ValueError) as fault:
        said = str(fault).splitlines()[0]
        raise RequestError(f"the optimizer or the scheduler cannot be built as set: {said}") from fault


def _quieten() -> None:
    """Leave out what Lightning says of itself; warnings about the user's run stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # the table of debug=profile
    if not is_first_process():
        logging.getLogger().setLevel(logging.ERROR)
    said = (
        ".*treespec, LeafSpec",
        ".*does not have many workers",
        "Total length of .list. across ranks is zero",  # no validation units, which callbacks=resume allows
        "(Experiment logs|Checkpoint) directory .* exists and is not empty",  # a failed job is done again
        "The `srun` command is available on your system but is not used",  # a login node may train by itself
    )
    for message in said:
        warnings.filterwarnings("ignore", message=message)
