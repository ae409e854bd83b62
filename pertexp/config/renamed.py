"""Configuration keys and choices that have another name now: an old one is refused with the new one."""

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


def renamed(key: str) -> str | None:
    """Return the message about a key or choice that has another name now; None about all others."""
    now = RENAMED.get(key)
    return None if now is None else f"{key} has another name now: type {now}."
