"""A sweep: jobs that do not fall with one another, and one table: folds pooled, mean ± s.d. over seeds, best first."""

import json
import logging
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from pertexp.door import WRONG_REQUEST, is_request, sentence
from pertexp.errors import RequestError
from pertexp.record import write_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pertexp.evaluation.frame import EvaluationFrame

log = logging.getLogger(__name__)

REPEATS = ("data.split.fold", "seed")
FOLD, SEED = REPEATS
FAILURE = "failure.json"


@dataclass(frozen=True)
class Job:
    """One finished job: what was swept in it, and where it lies."""

    folder: Path
    overrides: dict[str, str]

    @property
    def seed(self) -> str:
        """Its seed as typed; empty where seeds were not swept."""
        return self.overrides.get(SEED, "")


def job_of_sweep(run: Callable[[], float | None], config: DictConfig, folder: Path) -> float | None:
    """Run one job, unless it is done already; a failure is put on record and costs the other jobs nothing.

    Returns the value that the run returns, NaN where it failed.
    """
    try:
        with FileLock(folder / ".lock", blocking=False):
            if (folder / "metrics.json").is_file():
                log.info("already done: %s", folder)
                return stored_value(folder, config.model.name, config.evaluation.primary)
            return _attempt(run, folder)
    except Timeout:
        log.info("left to the process that is at it: %s", folder)
        return None


def _attempt(run: Callable[[], float | None], folder: Path) -> float | None:
    (folder / FAILURE).unlink(missing_ok=True)
    try:
        with _as_a_single_run(folder):
            return run()
    except Exception as fault:
        _record_failure(fault, folder)
        return math.nan


def stored_value(folder: Path, model: str, primary: str) -> float | None:
    """Mean of a model on a metric in the metrics.json of a finished job; None where it has none."""
    rows = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["aggregate"]
    return next((row["mean"] for row in rows if (row["model"], row["metric"]) == (model, primary)), None)


def _record_failure(fault: Exception, folder: Path) -> None:
    request = is_request(fault)
    said = sentence(fault) if request else traceback.format_exception_only(fault)[-1].strip()
    trace = "".join(traceback.format_exception(fault))
    write_json(folder / FAILURE, {"wrong_request": request, "sentence": said, "traceback": trace})
    log.error("%s", said if request else trace)


@contextmanager
def _as_a_single_run(folder: Path) -> Iterator[None]:
    """While a job runs, let the command and Hydra's run folder be its own: distributed training repeats both.

    Afterwards, take back what distributed training left in the process: the next job starts processes of its own.
    """
    from torch import distributed

    words, environment = sys.argv, dict(os.environ)
    hydra: Any = HydraConfig.get()
    with read_write(hydra):
        hydra.run.dir = str(folder)
    sys.argv = [words[0], *hydra.overrides.task]
    try:
        yield
    finally:
        sys.argv = words
        os.environ.clear()
        os.environ.update(environment)
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()


class SweepTable(Callback):
    """Hydra callback: prints and writes the table when all jobs are done, then says which of them failed."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Pool, score, write sweep.csv, print; leave with an exit code other than zero where a job failed."""
        folder = Path(OmegaConf.select(config, "hydra.sweep.dir"))
        jobs = finished_jobs(folder)
        if jobs:
            _show(jobs, folder, OmegaConf.select(config, "evaluation.primary"))
        failures = failed_jobs(folder)
        if failures:
            raise SystemExit(_say_failures(failures, len(jobs) + len(failures)))


def _show(jobs: list[Job], folder: Path, primary: str) -> None:
    from rich.console import Console

    try:
        table, notes = summarise(jobs, primary)
    except RequestError as fault:
        log.error("no table over these jobs: %s", sentence(fault))
        return
    table.to_csv(folder / "sweep.csv", index=False)
    title = f"{len(jobs)} jobs, folds pooled, mean ± s.d. over seeds, best {primary} first"
    console = Console(width=None if sys.stdout.isatty() else max(120, Console().width))
    console.print(render_sweep(table, primary, title))
    for line in [*notes, *verdict_of_best(jobs, table, primary)]:
        console.print(line, highlight=False)
    console.print(f"written to {folder / 'sweep.csv'}", highlight=False, soft_wrap=True)


def _say_failures(failures: dict[Path, dict[str, Any]], total: int) -> int:
    """Print every different reason once; 2 where all of them are wrong requests, else 1."""
    by_reason: dict[str, list[Path]] = {}
    for folder, failure in failures.items():
        by_reason.setdefault(failure["sentence"], []).append(folder)
    for reason, folders in by_reason.items():
        where = f" (see {folders[0]})" if not failures[folders[0]]["wrong_request"] else ""
        print(f"pertexp: {len(folders)} of {total} jobs failed: {reason}{where}", file=sys.stderr)  # noqa: T201
    return WRONG_REQUEST if all(failure["wrong_request"] for failure in failures.values()) else 1


def finished_jobs(folder: Path) -> list[Job]:
    """The jobs of the latest sweep in `folder` that wrote their metrics, in the order of their overrides.

    Equal sums need an equal order: a baseline is the same in every setting to the last bit.
    """
    jobs = [Job(path, _overrides(path)) for path in _latest(folder, "metrics.json")]
    return sorted(jobs, key=lambda job: sorted(job.overrides.items()))


def failed_jobs(folder: Path) -> dict[Path, dict[str, Any]]:
    """The jobs of the latest sweep in `folder` that failed, and why."""
    latest = [path for path in _latest(folder, FAILURE) if not (path / "metrics.json").is_file()]
    return {path: json.loads((path / FAILURE).read_text(encoding="utf-8")) for path in latest}


def _latest(folder: Path, name: str) -> list[Path]:
    """Job folders that hold a file, those that an earlier sweep of this name left under other defaults aside.

    Hydra writes multirun.yaml when a sweep begins, and the configuration of a job, also of one already done, after.
    """
    found = sorted(path.parent for path in folder.glob(f"*/{name}"))
    begun = folder / "multirun.yaml"
    since = begun.stat().st_mtime_ns if begun.is_file() else 0
    return [path for path in found if (path / "config" / "hydra.yaml").stat().st_mtime_ns >= since]


def _overrides(folder: Path) -> dict[str, str]:
    lines = OmegaConf.load(folder / "config" / "overrides.yaml")
    pairs = (str(line).lstrip("+~").partition("=") for line in lines)
    return {key: value for key, _, value in pairs}


def summarise(jobs: list[Job], primary: str) -> tuple[pd.DataFrame, list[str]]:
    """One row per combination of what was swept (folds and seeds aside), best first, then the baselines; and notes.

    Columns: role, model, the swept keys, folds, seeds, and per metric its mean over seeds and `<metric>_sd`. A baseline
    that scores the same whatever was swept has one row.
    """
    from pertexp.metrics.screens import CORE

    swept = _swept(jobs)
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for setting, members in _grouped(jobs, swept).items():
        of_setting, said = _rows_of(members, dict(zip(swept, setting, strict=True)))
        rows += of_setting
        notes += [note for note in said if note not in notes]
    table = pd.DataFrame(rows)
    own = table["role"] == "model"
    ordered = table[own].sort_values(primary, ascending=not CORE[primary].higher_is_better, kind="stable")
    return pd.concat([ordered, _baselines_once(table[~own], swept)], ignore_index=True), notes


def _baselines_once(table: pd.DataFrame, swept: list[str]) -> pd.DataFrame:
    """Baselines that did not change with what was swept in one row each; the others with their setting."""
    metrics = [name for name in table.columns if f"{name}_sd" in table.columns]
    parts = []
    for _, rows in table.groupby("model", sort=False):
        if len(rows.drop_duplicates(metrics)) == 1:
            parts.append(rows.head(1).assign(**dict.fromkeys(swept, "")))
        else:
            parts.append(rows)
    return pd.concat(parts) if parts else table


def _swept(jobs: list[Job]) -> list[str]:
    """Keys whose values differ between jobs, folds and seeds aside."""
    keys = sorted({key for job in jobs for key in job.overrides} - set(REPEATS))
    return [key for key in keys if len({job.overrides.get(key) for job in jobs}) > 1]


def _grouped(jobs: Iterable[Job], keys: list[str]) -> dict[tuple[str, ...], list[Job]]:
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.overrides.get(key, "") for key in keys), []).append(job)
    return groups


def _rows_of(jobs: list[Job], setting: dict[str, str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of one setting: the model, then its baselines and the replicate."""
    pooled = [_pooled(members) for members in _grouped(jobs, [SEED]).values()]
    own = pooled[0].model
    folds = len({job.overrides.get(FOLD, "") for job in jobs})
    rows = []
    for name in dict.fromkeys(name for one in pooled for name in one.means.index):
        over_seeds = pd.DataFrame([one.means.loc[name] for one in pooled if name in one.means.index])
        row: dict[str, Any] = {"role": "model" if name == own else "baseline", "model": name, **setting}
        row |= {"folds": folds, "seeds": len(over_seeds)}
        for metric in over_seeds.columns:
            row |= {metric: over_seeds[metric].mean(), f"{metric}_sd": over_seeds[metric].std(ddof=1)}
        rows.append(row)
    return rows, [note for one in pooled for note in one.notes]


def verdict_of_best(jobs: list[Job], table: pd.DataFrame, primary: str) -> list[str]:
    """Whether the best setting beats the best baseline, over the pooled test units of its first seed.

    The best of several settings is chosen on the units it is judged by, which the first sentence says.
    """
    from pertexp.evaluation.scoring import score, verdict

    swept = _swept(jobs)
    best = tuple(str(table[key].iloc[0]) for key in swept)
    of_seed = next(iter(_grouped(_grouped(jobs, swept)[best], [SEED]).values()))
    frame, model, _ = _pooled_frame(of_seed)
    chosen = ", ".join(f"{key}={value}" for key, value in zip(swept, best, strict=True))
    said = [f"best of {len(_grouped(jobs, swept))} settings, chosen on these units: {chosen}"] if swept else []
    return said + verdict(score(frame), model, primary)


def _pooled_frame(jobs: list[Job]) -> "tuple[EvaluationFrame, str, list[str]]":
    """Test units of all folds in one frame, the model's name, and notes."""
    from anndata import read_h5ad

    from pertexp.evaluation.frame import EvaluationFrame, concatenate

    stored = [read_h5ad(job.folder / "predictions.h5ad") for job in jobs]
    frames, notes = on_shared_genes([EvaluationFrame.from_anndata(adata) for adata in stored])
    return concatenate(frames), str(stored[0].uns["model"]), notes


@dataclass(frozen=True)
class _Pooled:
    """Means `[model × metric]` over the pooled test units of all folds of one seed."""

    model: str
    means: pd.DataFrame
    notes: list[str]


def _pooled(jobs: list[Job]) -> _Pooled:
    from pertexp.evaluation.scoring import score

    frame, model, notes = _pooled_frame(jobs)
    aggregate = score(frame, n_resamples=1).aggregate
    means = aggregate.pivot(index="model", columns="metric", values="mean")
    order = list(dict.fromkeys(aggregate["model"])), list(dict.fromkeys(aggregate["metric"]))
    return _Pooled(model, means.loc[order], notes)


def on_shared_genes(frames: "Sequence[EvaluationFrame]") -> "tuple[list[EvaluationFrame], list[str]]":
    """The frames on the genes that all of them hold, in the order of the first, and a note where any were left out.

    Genes chosen on training rows (data.n_top_genes) differ between folds.
    """
    shared = set.intersection(*(set(frame.genes) for frame in frames))
    order = [gene for gene in frames[0].genes if gene in shared]
    if not order:
        raise RequestError("the jobs share no gene, so their folds cannot be pooled: sweep without data.n_top_genes.")
    if all(frame.genes == tuple(order) for frame in frames):
        return list(frames), []
    most = max(len(frame.genes) for frame in frames)
    note = f"Folds chose different genes: pooled scores are over the {len(order)} of up to {most} that all folds hold."
    return [_restricted(frame, order) for frame in frames], [note]


def _restricted(frame: "EvaluationFrame", genes: list[str]) -> "EvaluationFrame":
    position = {gene: column for column, gene in enumerate(frame.genes)}
    columns = [position[gene] for gene in genes]
    halves = frame.replicate
    return replace(
        frame,
        genes=tuple(genes),
        predictions={name: table[:, columns] for name, table in frame.predictions.items()},
        replicate=None if halves is None else (halves[0][..., columns], halves[1][..., columns]),
        **{name: getattr(frame, name)[:, columns] for name in ("truth", "control", "train_mean", "de_score")},
    )


def render_sweep(table: pd.DataFrame, primary: str, title: str) -> "RenderableType":
    """The table for the console: what was swept, then four metrics, mean ± s.d. over seeds."""
    from rich import box
    from rich.table import Table

    shown = list(dict.fromkeys([primary, "pearson_delta_mean", "mse", "discrimination_cosine"]))
    keys = [name for name in table.columns if f"{name}_sd" not in table.columns and not name.endswith("_sd")]
    keys.remove("role")
    out = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for name in keys:
        out.add_column(name.replace(".", ".\n"), overflow="fold")
    for name in shown:
        out.add_column(name.replace("_", "_\n", 1), justify="right")
    for position, row in table.iterrows():
        cells = [str(row[key]) for key in keys]
        out.add_row(*cells, *(_mean_and_sd(row, metric) for metric in shown), style="bold" if position == 0 else None)
    return out


def _mean_and_sd(row: pd.Series, metric: str) -> str:
    if pd.isna(row[metric]):
        return "n/a"
    spread = "" if pd.isna(row[f"{metric}_sd"]) else f" ± {row[f'{metric}_sd']:.3f}"
    return f"{row[metric]:.4f}{spread}"
