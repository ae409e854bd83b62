"""The fit loop: Lightning's, with readable errors, and the weights of the best epoch at the end."""

from lightning import LightningDataModule, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException

from pertexp.config.errors import RequestError
from pertexp.training.checkpoints import KeepBest, load_weights, validation_metrics


def fit(model: LightningModule, data: LightningDataModule, trainer: Trainer, ckpt_path: str | None) -> dict[str, float]:
    """Train (or resume), then put the weights of the best epoch in; return its validation metrics."""
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


def _unwatched(fault: RuntimeError, trainer: Trainer) -> RequestError:
    """Early stopping monitors a metric that was never logged, as of validation pairs that have one label."""
    wanted = str(fault).split("`")[1]
    known = sorted(name for name in trainer.callback_metrics if name.startswith("val/"))
    return RequestError(
        f"callbacks.early_stopping watches {wanted}, which the model did not log; known: {', '.join(known)}. Type "
        "callbacks.early_stopping.monitor=..., or ~callbacks.early_stopping."
    )
