"""The one table of a sweep: folds pooled, mean ± standard deviation over seeds, best first."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from rich.console import RenderableType

REPEATS = ("data.split.fold", "seed")
FOLD, SEED = REPEATS


@dataclass(frozen=True)
class Job:
    """One finished job: what was swept in it, and where it lies."""

    folder: Path
    overrides: dict[str, str]

    @property
    def seed(self) -> str:
        """Its seed as typed; empty where seeds were not swept."""
        return self.overrides.get(SEED, "")


class SweepTable(Callback):
    """Hydra callback: prints and writes the table when all jobs are done."""

    def __init__(self, primary: str = "pearson_delta") -> None:
        self.primary = primary

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Pool, score, write sweep.csv, print."""
        from rich.console import Console

        folder = Path(OmegaConf.select(config, "hydra.sweep.dir"))
        jobs = finished_jobs(folder)
        if not jobs:
            return
        table = summarise(jobs, self.primary)
        table.to_csv(folder / "sweep.csv", index=False)
        title = (
            f"{len(jobs)} jobs, folds pooled, mean ± s.d. over seeds, best {self.primary} first: {folder / 'sweep.csv'}"
        )
        Console().print(render_sweep(table, self.primary, title))


def finished_jobs(folder: Path) -> list[Job]:
    """Every folder below `folder` whose job wrote its metrics, in the order of names."""
    done = sorted(path.parent for path in folder.glob("*/metrics.json"))
    return [Job(path, _overrides(path)) for path in done]


def _overrides(folder: Path) -> dict[str, str]:
    lines = OmegaConf.load(folder / "config" / "overrides.yaml")
    pairs = (str(line).lstrip("+~").partition("=") for line in lines)
    return {key: value for key, _, value in pairs}


def summarise(jobs: list[Job], primary: str) -> pd.DataFrame:
    """One row per combination of what was swept (folds and seeds aside) and per baseline, best model first.

    Columns: model, the swept keys, folds, seeds, and per metric its mean over seeds and `<metric>_sd`.
    """
    swept = _swept(jobs)
    rows: list[dict[str, Any]] = []
    for setting, members in _grouped(jobs, swept).items():
        rows += _rows_of(members, dict(zip(swept, setting, strict=True)))
    table = pd.DataFrame(rows)
    own = table["role"] == "model"
    ordered = table[own].sort_values(primary, ascending=False, kind="stable")
    metrics = [name for name in table.columns if f"{name}_sd" in table.columns]
    others = table[~own].drop_duplicates(["model", *metrics])
    return pd.concat([ordered, others], ignore_index=True)


def _swept(jobs: list[Job]) -> list[str]:
    """Keys whose values differ between jobs, folds and seeds aside."""
    keys = sorted({key for job in jobs for key in job.overrides} - set(REPEATS))
    return [key for key in keys if len({job.overrides.get(key) for job in jobs}) > 1]


def _grouped(jobs: Iterable[Job], keys: list[str]) -> dict[tuple[str, ...], list[Job]]:
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.overrides.get(key, "") for key in keys), []).append(job)
    return groups


def _rows_of(jobs: list[Job], setting: dict[str, str]) -> list[dict[str, Any]]:
    """Rows of one setting: the model, then its baselines and the replicate."""
    pooled = [_pooled(members) for members in _grouped(jobs, [SEED]).values()]
    own = pooled[0].model
    folds = len({job.overrides.get(FOLD, "") for job in jobs})
    rows = []
    for name in dict.fromkeys(name for one in pooled for name in one.means.index):
        over_seeds = pd.DataFrame([one.means.loc[name] for one in pooled if name in one.means.index])
        swept = setting if name == own else dict.fromkeys(setting, "")
        row: dict[str, Any] = {"role": "model" if name == own else "baseline", "model": name, **swept}
        row |= {"folds": folds, "seeds": len(over_seeds)}
        for metric in over_seeds.columns:
            row |= {metric: over_seeds[metric].mean(), f"{metric}_sd": over_seeds[metric].std(ddof=1)}
        rows.append(row)
    return rows


@dataclass(frozen=True)
class _Pooled:
    """Means `[model × metric]` over the pooled test units of all folds of one seed."""

    model: str
    means: pd.DataFrame


def _pooled(jobs: list[Job]) -> _Pooled:
    from anndata import read_h5ad

    from pertexp.evaluation.frame import EvaluationFrame, concatenate
    from pertexp.evaluation.scoring import score

    stored = [read_h5ad(job.folder / "predictions.h5ad") for job in jobs]
    frame = concatenate([EvaluationFrame.from_anndata(adata) for adata in stored])
    aggregate = score(frame, n_resamples=1).aggregate
    means = aggregate.pivot(index="model", columns="metric", values="mean")
    order = list(dict.fromkeys(aggregate["model"])), list(dict.fromkeys(aggregate["metric"]))
    return _Pooled(str(stored[0].uns["model"]), means.loc[order])


def render_sweep(table: pd.DataFrame, primary: str, title: str) -> "RenderableType":
    """The table for the console: what was swept, then four metrics, mean ± s.d. over seeds."""
    from rich import box
    from rich.table import Table

    shown = list(dict.fromkeys([primary, "pearson_delta_mean", "mse", "discrimination_cosine"]))
    keys = [name for name in table.columns if f"{name}_sd" not in table.columns and not name.endswith("_sd")]
    keys.remove("role")
    out = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for name in [*keys, *shown]:
        out.add_column(name, justify="left" if name in keys else "right", overflow="fold")
    for position, row in table.iterrows():
        cells = [str(row[key]) for key in keys]
        out.add_row(*cells, *(_mean_and_sd(row, metric) for metric in shown), style="bold" if position == 0 else None)
    return out


def _mean_and_sd(row: pd.Series, metric: str) -> str:
    if pd.isna(row[metric]):
        return "n/a"
    spread = "" if pd.isna(row[f"{metric}_sd"]) else f" ± {row[f'{metric}_sd']:.3f}"
    return f"{row[metric]:.4f}{spread}"
