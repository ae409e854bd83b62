"""`python -m pertexp.run`: compose, prepare, fit, evaluate, write."""

import hashlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from pertexp.door import config_folder, guarded, is_first_process, no_folder_for_a_wrong_request, one_sentence
from pertexp.errors import RequestError

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer

    from pertexp.evaluation.contract import Evaluation, Report

log = logging.getLogger(__name__)

SWEEP = "PERTEXP_SWEEP"
MULTIRUN = ("-m", "--multirun")
SETTING = ("model", "data", "loss", "optimizer", "scheduler", "stages")


def config_hash(*, _root_: DictConfig) -> str:
    """Twelve hex digits of a job's composed configuration: where a sweep finds what it has done."""
    own = OmegaConf.masked_copy(_root_, [str(key) for key in _root_ if key != "hydra"])
    return hashlib.sha256(OmegaConf.to_yaml(own, sort_keys=True).encode()).hexdigest()[:12]


def run_label(*, _root_: DictConfig) -> str:
    """Model and data of a run, also of one that is a repeat: part of the name of its folder."""
    from pertexp.runs.record import saved_config

    config = _root_ if _root_.repeat is None else saved_config(_root_.repeat)
    return f"{config.model.name}_{config.data.name}"


def sweep_name(words: list[str]) -> str:
    """A name that the same sweep gets again: its single choices, and a hash of all its overrides.

    Those of the table aside, which may be asked for anew: what another reference says needs no other jobs.
    """
    overrides = sorted(word for word in words if not word.startswith(("-", "hydra.callbacks.sweep_table.")))
    single = [word.split("=", 1)[1] for word in overrides if word.startswith(("model=", "data=")) and "," not in word]
    digest = hashlib.sha256("\n".join(overrides).encode()).hexdigest()[:8]
    return "_".join([*single, digest])


OmegaConf.register_new_resolver("config_hash", config_hash, replace=True)
OmegaConf.register_new_resolver("run_label", run_label, replace=True)


class Prepared(NamedTuple):
    """What a run is made of, built and found to fit together."""

    data: Any
    model: Any
    trainer: "Trainer"
    evaluation: "Evaluation"


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
    from pertexp.runs.record import write_record
    from pertexp.tasks.registry import task_of_report
    from pertexp.training.loggers import closing_wandb

    if config.repeat is not None:
        config = _repeated(config, folder)
    console = Console(width=None if sys.stdout.isatty() else max(100, Console().width), markup=False)
    if is_first_process():
        _say_hello(config, console)
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


def prepare(config: DictConfig) -> Prepared:
    """Build data, model, trainer and evaluation, and refuse what does not fit before anything is trained."""
    import lightning

    from pertexp import threads
    from pertexp.composition import build, build_group
    from pertexp.loss_choices import naming_losses_that_fit
    from pertexp.runs.record import schema
    from pertexp.tasks.registry import require_fit
    from pertexp.training.checkpoints import EpochClock, RandomState, SchemaStamp, begin_from, require_resumable
    from pertexp.training.stages import warn_without_stages

    _quieten()
    _check_values(config)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    data, loss = build(config.data, "data"), build(config.loss, "loss")
    evaluation, optimizer = build(config.evaluation, "evaluation"), build(config.optimizer, "optimizer")
    scheduler, stages = build(config.scheduler, "scheduler"), build(config.stages, "stages")
    callbacks = build_group(config.get("callbacks"), "callbacks")
    loggers = list(build_group(config.get("logger"), "logger").values())
    task = require_fit(data, evaluation, config.model._target_, _names(config))
    stamp = SchemaStamp(
        lambda: schema(data.design), lambda: task.restorable(data.design, *plain_parts(config)), setting(config)
    )
    own = [stages, EpochClock(), RandomState(), stamp]
    trainer = build(config.trainer, "trainer", callbacks=[*callbacks.values(), *own], logger=loggers)
    threads.settle(trainer.num_devices)
    _require_validation(data, callbacks)
    evaluation.require(data)
    with _fitting("model"), naming_losses_that_fit():
        model = build(config.model, "model")(data=data, loss=loss, optimizer=optimizer, scheduler=scheduler)
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
    """Data, evaluation and model as they were typed."""
    evaluation = HydraConfig.get().runtime.choices.get("evaluation")
    return {"data": config.data.name, "evaluation": str(evaluation), "model": config.model.name}


def plain_parts(config: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configurations of model and data as plain values, interpolations resolved."""
    model, data = (dict(OmegaConf.to_container(node, resolve=True)) for node in (config.model, config.data))  # type: ignore[arg-type]
    return model, data


def setting(config: DictConfig) -> dict[str, Any]:
    """What the numbers of training hang on, as plain values: other callbacks or devices may resume a run."""
    return {"seed": config.seed, **{name: OmegaConf.to_container(config[name], resolve=True) for name in SETTING}}


def fit(model: "LightningModule", data: Any, trainer: "Trainer", ckpt_path: str | None) -> dict[str, float]:
    """Train (or resume), then put the weights of the best epoch in; return its validation metrics."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from pertexp.training.checkpoints import KeepBest, load_weights, validation_metrics

    try:
        trainer.fit(model, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    except SystemExit:
        if trainer.interrupted:  # Lightning leaves without a word
            raise KeyboardInterrupt from None
        raise
    except MisconfigurationException as fault:
        raise RequestError(f"trainer cannot train as it is set: {str(fault).strip().splitlines()[0]}") from fault
    except RuntimeError as fault:
        if not str(fault).startswith("Early stopping conditioned on metric"):
            raise
        raise _unwatched(fault, trainer) from fault
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, KeepBest) and callback.best_model_path:
            return load_weights(model, callback.best_model_path)
    return validation_metrics(trainer)


def _unwatched(fault: RuntimeError, trainer: Any) -> RequestError:
    """What early stopping watches was never said, as the scores of validation pairs that have one label are not."""
    wanted = str(fault).split("`")[1]
    known = sorted(name for name in trainer.callback_metrics if name.startswith("val/"))
    return RequestError(
        f"callbacks.early_stopping watches {wanted}, which the model did not say; known: {', '.join(known)}. Type "
        "callbacks.early_stopping.monitor=..., or ~callbacks.early_stopping."
    )


def _check_values(config: DictConfig) -> None:
    """Hold every value against its type before the first thing is built."""
    from pydantic import Field

    from pertexp import threads
    from pertexp.composition import check_node
    from pertexp.training.checkpoints import read_checkpoint
    from pertexp.typed import check_type

    hints = {
        "seed": Annotated[int, Field(ge=0, lt=2**32)],
        "tags": list[str],
        "ckpt_path": str | None,
        "print_config": bool,
    }
    for name, hint in hints.items():
        value = config[name]
        check_type(hint, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value, name)
    if config.ckpt_path is not None:
        threads.same_as(read_checkpoint(config.ckpt_path).get("threads"), config.ckpt_path)
    for name in (*SETTING, "trainer", "evaluation"):
        if name not in config:
            raise RequestError(
                f"~{name} leaves out what every run needs: remove it, or type {name}=<choice>, as listed by --help."
            )
    for group, node in config.items():
        with _fitting(str(group)):
            check_node(node, str(group))


@contextmanager
def _fitting(group: str) -> Iterator[None]:
    """Say of choices that do not fit one another that they do not, rather than blame an option that nobody typed."""
    try:
        yield
    except RequestError as fault:
        raise _of_another_kind(fault, group) or fault from None


def _of_another_kind(fault: RequestError, group: str) -> RequestError | None:
    """What to say of an option that nobody typed: a choice of one kind wrote it into one of another kind."""
    choices = HydraConfig.get().runtime.choices
    option = str(fault).split(" ", 1)[0]
    typed = [word.lstrip("+~").split("=", 1)[0] for word in HydraConfig.get().overrides.task]
    if " is not an option" not in str(fault) or option in typed or "model" not in choices:
        return None
    beside = [name for name in ("data", "model", "model/ablation") if choices.get(name)]
    named = " and ".join(f"{name}={choices[name]}" for name in beside)
    return RequestError(
        f"{named} do not fit one another: {group} would be given {option}, which it does not have; "
        "choose those of one kind (screens, or pairs)."
    )


def _require_validation(data: Any, callbacks: dict[str, Any]) -> None:
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


def _repeated(config: DictConfig, folder: Path) -> DictConfig:
    """The configuration of the run to repeat, put on record; overrides beside it would make a different run."""
    from pertexp import threads
    from pertexp.runs.record import save_config, saved_config, saved_threads
    from pertexp.runs.schema import ENVIRONMENT

    others = [word for word in HydraConfig.get().overrides.task if not word.startswith("repeat=")]
    if others:
        raise RequestError(
            f"repeat={config.repeat} repeats a run as it was, but {others[0]} was given too: remove one of them."
        )
    repeated = saved_config(config.repeat)
    threads.same_as(saved_threads(config.repeat), str(Path(config.repeat) / ENVIRONMENT))
    if is_first_process():
        save_config(repeated, folder)
    return repeated


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


def _say_hello(config: DictConfig, console: Any) -> None:
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
