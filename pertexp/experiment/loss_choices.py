"""Choices of the group `loss` that fit a model, for the message that refuses another one."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pertexp.config.errors import MismatchError, RequestError
from pertexp.config.instantiate import build
from pertexp.losses.contract import LossMismatchError, require_loss


@contextmanager
def naming_losses_that_fit() -> Iterator[None]:
    """Name the choices that fit where a loss is refused, among those on the search path of this run."""
    try:
        yield
    except LossMismatchError as fault:
        sources = HydraConfig.get().runtime.config_sources
        names = losses_that_fit(fault.offered, [Path(one.path) for one in sources if one.schema == "file"])
        if not names:
            raise
        choices = ", ".join(f"loss={name}" for name in names)
        raise MismatchError(f"{fault.found}: type one of {choices}.") from None


def losses_that_fit(offered: frozenset[str], trees: Iterable[Path]) -> list[str]:
    """Return names of the files in `loss` below any of the trees whose loss needs no more than is offered."""
    files = {path.stem: path for tree in trees for path in (tree / "loss").glob("*.yaml")}
    return sorted(name for name, path in files.items() if _fits(path, offered))


def _fits(path: Path, offered: frozenset[str]) -> bool:
    try:
        node = OmegaConf.load(path)
        require_loss(build(node, "loss") if isinstance(node, DictConfig) else None, offered, "")
    except RequestError:  # it needs more, or an option that has no value by itself
        return False
    return True
