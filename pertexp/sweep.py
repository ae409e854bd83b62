"""A sweep: jobs that do not fall with one another, and one table, folds together, mean ± s.d. over seeds."""

import logging
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from pertexp import threads
from pertexp.door import WRONG_REQUEST, is_request, sentence
from pertexp.errors import RequestError
from pertexp.evaluation.against import against_reference, render_against
from pertexp.evaluation.pooling import pool, stored_summary
from pertexp.runs.jobs import FAILURE, FOLDS, SEED, Job, failed_jobs, finished_jobs, grouped, swept_keys
from pertexp.runs.record import write_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

log = logging.getLogger(__name__)


def job_of_sweep(run: Callable[[], float | None], folder: Path) -> float | None:
    """Run one job, unless it is done already; a failure is put on record and costs the other jobs nothing.

    Returns the value that the run returns, NaN where it failed.
    """
    try:
        with FileLock(folder / ".lock", blocking=False):
            if (folder / "metrics.json").is_file():
                log.info("already done: %s", folder)
                return stored_value(folder)
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


def stored_value(folder: Path) -> float | None:
    """Mean of a finished job's model on its primary metric; None where it has none."""
    stored = stored_summary(folder)
    wanted = stored["model"], stored["primary"]
    return next((row["mean"] for row in stored["aggregate"] if (row["model"], row["metric"]) == wanted), None)


def _record_failure(fault: Exception, folder: Path) -> None:
    request = is_request(fault)
    said = sentence(fault) if request else traceback.format_exception_only(fault)[-1].strip()
    trace = "".join(traceback.format_exception(fault))
    write_json(folder / FAILURE, {"wrong_request": request, "sentence": said, "traceback": trace})
    log.error("%s", said if request else trace)


@contextmanager
def _as_a_single_run(folder: Path) -> Iterator[None]:
    """While a job runs, let the command and Hydra's run folder be its own: distributed training repeats both.

    Afterwards, take back what distributed training left in the process: the next job starts processes of its own, and
    computes with the threads that were set.
    """
    from torch import distributed

    words, environment = sys.argv, dict(os.environ)
    hydra: Any = HydraConfig.get()
    with read_write(hydra):
        hydra.run.dir = str(folder)
    sys.argv = [words[0], *hydra.overrides.task]
    try:
        with threads.kept():
            yield
    finally:
        sys.argv = words
        os.environ.clear()
        os.environ.update(environment)
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()


class SweepTable(Callback):
    """Hydra callback: prints and writes the table when all jobs are done, then says which of them failed.

    Parameters
    ----------
    reference
        `key=value` of the setting that all others are held against, as in an ablation; None: none is.
    """

    def __init__(self, reference: str | None = None) -> None:
        self.reference = reference

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Pool, score, write sweep.csv, print; leave with an exit code other than zero where a job failed."""
        folder = Path(OmegaConf.select(config, "hydra.sweep.dir"))
        jobs = finished_jobs(folder)
        if jobs:
            _show(jobs, folder, self.reference)
        failures = failed_jobs(folder)
        if failures:
            raise SystemExit(_say_failures(failures, len(jobs) + len(failures)))


def _show(jobs: list[Job], folder: Path, reference: str | None) -> None:
    from rich.console import Console

    from pertexp.report import leaderboard_said

    primary = stored_summary(jobs[0].folder)["primary"]
    try:
        table = summarise(jobs, primary)
    except RequestError as fault:
        log.error("no table over these jobs: %s", sentence(fault))
        return
    table.to_csv(folder / "sweep.csv", index=False)
    title = f"{len(jobs)} jobs, folds together, mean ± s.d. over seeds, best {primary} first"
    console = Console(width=None if sys.stdout.isatty() else max(120, Console().width), markup=False)
    console.print(f"\n{title}", highlight=False, soft_wrap=True)
    console.print(render_sweep(table, primary))
    for line in verdict_of_best(jobs, table, primary):
        console.print(line, highlight=False)
    if reference is not None:
        _show_reference(jobs, reference, primary, folder, console)
    console.print(f"written to {folder / 'sweep.csv'}", highlight=False, soft_wrap=True)
    console.print(leaderboard_said(folder), highlight=False, soft_wrap=True)


def _show_reference(jobs: list[Job], reference: object, primary: str, folder: Path, console: "Console") -> None:
    if not isinstance(reference, str) or "=" not in reference:
        asked = "type hydra.callbacks.sweep_table.reference='\"key=value\"'"
        console.print(f"no comparison with {reference}: {asked}", highlight=False)
        return
    try:
        table = against_reference(jobs, reference, primary)
    except RequestError as fault:
        console.print(f"no comparison with {reference}: {sentence(fault)}", highlight=False)
        return
    if not table.empty:
        table.to_csv(folder / "against.csv", index=False)
        over = f"paired over {table['over'].iloc[0]}"
        console.print(f"\n{primary} of {reference}, less that of the others; {over}", highlight=False, soft_wrap=True)
        console.print(render_against(table, reference))


def _say_failures(failures: dict[Path, dict[str, Any]], total: int) -> int:
    """Print every different reason once; 2 where all of them are wrong requests, else 1."""
    by_reason: dict[str, list[Path]] = {}
    for folder, failure in failures.items():
        by_reason.setdefault(failure["sentence"], []).append(folder)
    for reason, folders in by_reason.items():
        where = f" (see {folders[0]})" if not failures[folders[0]]["wrong_request"] else ""
        print(f"pertexp: {len(folders)} of {total} jobs failed: {reason}{where}", file=sys.stderr)  # noqa: T201
    return WRONG_REQUEST if all(failure["wrong_request"] for failure in failures.values()) else 1


def summarise(jobs: list[Job], primary: str) -> pd.DataFrame:
    """One row per combination of what was swept (folds and seeds aside), best first, then the baselines.

    Columns: role, model, the swept keys, folds, seeds, and per metric its mean over seeds and `<metric>_sd`. A baseline
    that scores the same whatever was swept has one row.
    """
    from pertexp.metrics.registry import METRICS

    swept = swept_keys(jobs)
    rows: list[dict[str, Any]] = []
    for setting, members in grouped(jobs, swept).items():
        rows += _rows_of(members, dict(zip(swept, setting, strict=True)))
    table = pd.DataFrame(rows)
    if primary not in table.columns:
        raise RequestError(f"not every job measured {primary}: sweep over one evaluation, or set evaluation.primary.")
    own = table["role"] == "model"
    ordered = table[own].sort_values(primary, ascending=not METRICS[primary].higher_is_better, kind="stable")
    return pd.concat([ordered, _baselines_once(table[~own], swept)], ignore_index=True)


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


def _rows_of(jobs: list[Job], setting: dict[str, str]) -> list[dict[str, Any]]:
    """Rows of one setting: the model, then its baselines and the replicate."""
    of_seeds = [pool([job.folder for job in members]) for members in grouped(jobs, [SEED]).values()]
    pooled = [of_seed.means() for of_seed in of_seeds]
    roles = {name: role for of_seed in of_seeds for name, role in of_seed.roles.items()}
    folds = len({tuple(job.overrides.get(key, "") for key in FOLDS) for job in jobs})
    rows = []
    for name in dict.fromkeys(name for means in pooled for name in means.index):
        over_seeds = pd.DataFrame([means.loc[name] for means in pooled if name in means.index])
        row: dict[str, Any] = {"role": roles[name], "model": name, **setting}
        row |= {"folds": folds, "seeds": len(over_seeds)}
        for metric in over_seeds.columns:
            row |= {metric: over_seeds[metric].mean(), f"{metric}_sd": over_seeds[metric].std(ddof=1)}
        rows.append(row)
    return rows


def verdict_of_best(jobs: list[Job], table: pd.DataFrame, primary: str) -> list[str]:
    """Whether the best setting beats the best baseline, over the pooled test units of its first seed.

    The best of several settings is chosen on the units it is judged by, which the first sentence says.
    """
    swept = swept_keys(jobs)
    best = tuple(str(table[key].iloc[0]) for key in swept)
    of_seed = next(iter(grouped(grouped(jobs, swept)[best], [SEED]).values()))
    chosen = ", ".join(f"{key}={value}" for key, value in zip(swept, best, strict=True))
    said = [f"best of {len(grouped(jobs, swept))} settings, chosen on these units: {chosen}"] if swept else []
    return said + pool([job.folder for job in of_seed]).verdict(primary)


def render_sweep(table: pd.DataFrame, primary: str) -> "RenderableType":
    """The table for the console: what was swept, then four metrics, mean ± s.d. over seeds."""
    from rich import box
    from rich.table import Table

    shown = _shown(table, primary)
    keys = [name for name in table.columns if f"{name}_sd" not in table.columns and not name.endswith("_sd")]
    keys.remove("role")
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in keys:
        out.add_column(name.replace(".", ".\n"), overflow="fold")
    for name in shown:
        out.add_column(name.replace("_", "_\n", 1), justify="right", no_wrap=True)
    for position, row in table.iterrows():
        cells = [str(row[key]) for key in keys]
        out.add_row(*cells, *(_mean_and_sd(row, metric) for metric in shown), style="bold" if position == 0 else None)
    return out


def _shown(table: pd.DataFrame, primary: str) -> list[str]:
    """The primary metric and up to three others of the headline."""
    from pertexp.metrics.registry import METRICS

    headline = [name for name in table.columns if name in METRICS and METRICS[name].level == "headline"]
    return list(dict.fromkeys([primary, *headline]))[:4]


def _mean_and_sd(row: pd.Series, metric: str) -> str:
    if pd.isna(row[metric]):
        return "n/a"
    spread = "" if pd.isna(row[f"{metric}_sd"]) else f" ± {row[f'{metric}_sd']:.3f}"
    return f"{row[metric]:.4f}{spread}"
