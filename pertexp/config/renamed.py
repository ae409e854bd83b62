"""Configuration keys and choices that have another name now, or one task alone: what to say where one is unknown."""

# As it was typed, without its value: what to type now.
RENAMED = {
    "callbacks=curriculum": "stages=curriculum callbacks=from_epoch, which model=prism brings",
    "callbacks.curriculum": "stages=curriculum callbacks=from_epoch, which model=prism brings",
    "callbacks.curriculum.frozen_epochs": "stages.plan.warm_up.epochs=...",
    "model.lr_decay": "scheduler=step scheduler.gamma=...",
    "data.pseudobulk": "data/batches=pseudobulk, with data.batches.combine=sum or mean",
    "data.control_match": "data/batches=matched_controls, with data.batches.match=context or any",
    "data.resample_controls": "data/batches=matched_controls data.batches.resample=true or false",
    "data.drop_last": "data.batches.drop_last=true or false",
}

OF_SCREENS = {
    "data.split.n_train": "data.split.n_train, which experiment=learning_curve sweeps, is an option of the splits of "
    "screens, and this data/split has none: type data=simulated_screen, or another screen, and a model of screens.",
}


def of_one_task(key: str) -> str | None:
    """Return the message about a key that data of one task alone have; None about all others."""
    return OF_SCREENS.get(key)


def renamed(key: str) -> str | None:
    """Return the message about a key or choice that has another name now; None about all others."""
    now = RENAMED.get(key)
    return None if now is None else f"{key} has another name now: type {now}."
