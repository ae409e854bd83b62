"""Checks of a composed configuration, before any object is built."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pydantic import Field

from pertexp.config.errors import RequestError, nearest
from pertexp.config.instantiate import check_node
from pertexp.config.validate import check_type

REQUIRED = ("model", "data", "loss", "optimizer", "scheduler", "stages", "trainer", "evaluation")
OPTIONAL = ("callbacks", "logger", "paths", "repeat")


def check_values(config: DictConfig) -> None:
    """Check every value against its type before the first thing is built."""
    hints = {
        "seed": Annotated[int, Field(ge=0, lt=2**32)],
        "tags": list[str],
        "ckpt_path": str | None,
        "print_config": bool,
    }
    for name, hint in hints.items():
        value = config[name]
        check_type(hint, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value, name)
    _refuse_unread({*hints, *REQUIRED, *OPTIONAL})
    for name in REQUIRED:
        if name not in config:
            raise RequestError(
                f"~{name} leaves out what every run needs: remove it, or type {name}=<choice>, as listed by --help."
            )
    for group, node in config.items():
        with fitting(str(group)):
            check_node(node, str(group))


def _refuse_unread(known: set[str]) -> None:
    """Refuse what was added at the top of the configuration, where nothing reads it: it would only rename the run."""
    for word in HydraConfig.get().overrides.task:
        added = re.match(r"\++([^.=/@]+)", word)
        if added and added.group(1) not in known and added.group(1) not in HydraConfig.get().runtime.choices:
            raise RequestError(
                f"{word}: no part of a run reads {added.group(1)}; {nearest(added.group(1), known)} Or remove it."
            )


@contextmanager
def fitting(group: str) -> Iterator[None]:
    """Say of choices that do not fit one another that they do not, rather than blame an option that nobody typed."""
    try:
        yield
    except RequestError as fault:
        raise _of_another_kind(fault, group) or fault from None


def _of_another_kind(fault: RequestError, group: str) -> RequestError | None:
    """Return what to say of an option that nobody typed: a choice of one task wrote it into one of another task."""
    choices = HydraConfig.get().runtime.choices
    option = str(fault).split(" ", 1)[0]
    typed = [word.lstrip("+~").split("=", 1)[0] for word in HydraConfig.get().overrides.task]
    if " is not an option" not in str(fault) or option in typed or "model" not in choices:
        return None
    chosen = [name for name in ("data", "model", "model/ablation") if choices.get(name)]
    named = " and ".join(f"{name}={choices[name]}" for name in chosen)
    return RequestError(
        f"{named} do not fit one another: {group} would be given {option}, which it does not have; "
        "choose those of one task (screens, or pairs)."
    )
