"""Names of run folders and sweeps, computed while a configuration is composed."""

import hashlib

from omegaconf import DictConfig, OmegaConf


def config_hash(*, _root_: DictConfig) -> str:
    """Return twelve hex digits of a job's composed configuration: where a sweep finds what it has done."""
    own = OmegaConf.masked_copy(_root_, [str(key) for key in _root_ if key != "hydra"])
    return hashlib.sha256(OmegaConf.to_yaml(own, sort_keys=True).encode()).hexdigest()[:12]


def run_label(*, _root_: DictConfig) -> str:
    """Model and data of a run, also of one that is a repeat: part of the name of its folder."""
    from pertexp.runs.record import saved_config

    config = _root_ if _root_.repeat is None else saved_config(_root_.repeat)
    return f"{config.model.name}_{config.data.name}"


def sweep_name(words: list[str]) -> str:
    """Return a name that the same sweep gets again: its single choices, and a hash of all its overrides.

    Those of the table aside, which may be asked for anew: what another reference says needs no other jobs.
    """
    overrides = sorted(word for word in words if not word.startswith(("-", "hydra.callbacks.sweep_table.")))
    single = [word.split("=", 1)[1] for word in overrides if word.startswith(("model=", "data=")) and "," not in word]
    digest = hashlib.sha256("\n".join(overrides).encode()).hexdigest()[:8]
    return "_".join([*single, digest])


OmegaConf.register_new_resolver("config_hash", config_hash, replace=True)
OmegaConf.register_new_resolver("run_label", run_label, replace=True)
