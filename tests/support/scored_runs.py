"""Run folders whose numbers are known, written without training."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from pertexp.evaluation.comparison import verdict
from pertexp.evaluation.screens.measuring import Measured
from pertexp.evaluation.screens.scoring import Scores
from pertexp.runs.documents import dumped
from pertexp.runs.record import write_text
from pertexp.runs.schema import DATA, METRICS_FILE

UNITS = [f"p{number}" for number in range(16)]


def write_run(
    folder: Path, typed: dict, values: np.ndarray, *, fold: int = 0, units=UNITS, validation=None, config=None,
    baselines=None, trained=None,
) -> None:  # fmt: skip
    """A finished run of model m with these values `[U]` of mse, beside baselines (b of value 0.5 everywhere)."""
    folder.mkdir(parents=True)
    (folder / "config").mkdir()
    tree: dict = {"model": {"name": "m", "_target_": "m"}, "data": {"name": "d"}, "loss": {"name": "nb"}, "seed": 0}
    tree |= config or {}
    for key, value in typed.items():
        node = tree
        *path, last = key.split(".")
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(tree))
    (folder / "config" / "overrides.yaml").write_text(
        yaml.safe_dump([f"{key}={value}" for key, value in typed.items()])
    )
    table = pd.DataFrame({"perturbation": units, "context": "c", "fold": fold, "seen": 0, "metric": "mse"})
    others = {"b": 0.5} if baselines is None else baselines
    parts = [table.assign(model=name, value=of_name) for name, of_name in {"m": values, **others}.items()]
    per_unit = pd.concat(parts)[["model", "metric", "perturbation", "context", "fold", "seen", "value"]]
    trust = pd.DataFrame(columns=["metric", "perturbation", "context", "fold", "seen", "drf", "bds"])
    scores = Scores.of(Measured(per_unit, trust, "log1p"), "mse", 200)
    metrics = scores.metrics_of("m", verdict(scores, scores.roles("m")), "profile")
    scores.write_units(folder)
    write_text(
        folder / METRICS_FILE, dumped(metrics).replace('"validation": {}', f'"validation": {validation or "{}"}')
    )
    if trained is not None:
        (folder / DATA).write_text(json.dumps({"training_perturbations": trained}))
