"""Loggers that work with and without an account, and are always closed."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch.loggers import WandbLogger


def wandb_logger(project: str, save_dir: str, mode: str | None = None, **options: Any) -> "WandbLogger":
    """Return a W&B logger: `mode` as given or by WANDB_MODE, else online where a login is known, else offline."""
    from lightning.pytorch.loggers import WandbLogger

    chosen = mode or os.environ.get("WANDB_MODE") or ("online" if _logged_in() else "offline")
    return WandbLogger(project=project, save_dir=save_dir, mode=chosen, **options)


def _logged_in() -> bool:
    import wandb

    return bool(wandb.login(prompt=False, verify=False))


@contextmanager
def closing_wandb() -> Iterator[None]:
    """Finish a W&B run whatever happens: an open one would swallow the next job of a sweep."""
    try:
        yield
    finally:
        wandb = sys.modules.get("wandb")
        if wandb is not None and wandb.run is not None:
            wandb.finish(exit_code=0 if sys.exc_info()[0] is None else 1)
