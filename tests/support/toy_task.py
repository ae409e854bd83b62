"""A third task as small as can be: toys whose price follows from their weight. It brings all that a task brings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import lightning
import numpy as np
import pandas as pd
import torch
from rich.text import Text

from pertexp.evaluation.bootstrap import bootstrap_mean, paired_difference
from pertexp.evaluation.comparison import Difference, verdict
from pertexp.evaluation.contract import ScoredRun
from pertexp.evaluation.results.results import Results
from pertexp.evaluation.roles import RowRoles
from pertexp.inference.predicting import Predicting
from pertexp.inference.trained import Restored
from pertexp.metrics.output import Impact
from pertexp.report.page import RunPage
from pertexp.report.score_table import ScoreTable
from pertexp.report.sections import Section, Values
from pertexp.report.sentences import verdict_sentences
from pertexp.report.tables import tile
from pertexp.runs import documents
from pertexp.runs.reading import RunFolder, guarded, shared_files
from pertexp.runs.schema import DataRecord, RunMetrics, ScoreRow
from pertexp.runs.tables import Table
from pertexp.tasks.base import Evaluator, Task
from pertexp.training.schedulers import configured

NAME = "toys"
WEIGHT = np.linspace(-1.0, 1.0, 40)
TOYS = Table("toys.parquet", {"model": "str", "toy": "int64", "fold": "int64", "price": "float64", "said": "float64"})


@dataclass
class ToySplit:
    """Every other toy is held out."""

    fold: int = 0

    def write(self, path: Path) -> None:
        pd.DataFrame({"toy": np.arange(40), "test": self.test}).to_parquet(path)

    @property
    def test(self) -> np.ndarray:
        return np.arange(40) % 2 == self.fold


@dataclass
class ToyDesign:
    split: ToySplit
    price: np.ndarray

    def schema(self) -> dict[str, Any]:
        return {"fold": self.split.fold, "price": round(float(self.price.sum()), 9)}

    def record(self) -> DataRecord:
        return DataRecord(task=NAME, fold=self.split.fold)


class OneBatch:
    """All toys of a role at once."""

    def __init__(self, weight: np.ndarray, price: np.ndarray) -> None:
        self.batch = {"weight": torch.from_numpy(weight).float(), "price": torch.from_numpy(price).float()}

    def __iter__(self) -> Any:
        yield self.batch

    def __len__(self) -> int:
        return 1

    def set_epoch(self, epoch: int) -> None:
        """The order is always the same."""


class ToyData(lightning.LightningDataModule):
    task: ClassVar[str] = NAME
    has_validation = True

    def __init__(self, name: str, split: dict[str, int], noise: float) -> None:
        super().__init__()
        self.name, self.split = name, ToySplit(**split)
        noisy = noise * np.random.default_rng(0).normal(size=40)
        self.design = ToyDesign(self.split, 2.0 * WEIGHT + 1.0 + noisy)

    def train_dataloader(self) -> OneBatch:
        return self._of(~self.split.test)

    val_dataloader = train_dataloader

    def _of(self, rows: np.ndarray) -> OneBatch:
        return OneBatch(WEIGHT[rows], self.design.price[rows])


class ToyModel(lightning.LightningModule):
    predicts = Impact()

    def __init__(self, optimizer: Any = torch.optim.SGD, scheduler: Any = lambda _: None) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(1, 1)
        self.make_optimizer, self.make_scheduler = optimizer, scheduler

    @classmethod
    def from_data(cls, data: Any, loss: Any, optimizer: Any, scheduler: Any, name: str) -> "ToyModel":  # noqa: ARG003
        return cls(optimizer, scheduler)

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:  # noqa: ARG002
        loss = (self.linear(batch["weight"][:, None])[:, 0] - batch["price"]).square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:  # noqa: ARG002
        self.log("val/loss", (self.linear(batch["weight"][:, None])[:, 0] - batch["price"]).square().mean())

    def configure_optimizers(self) -> Any:
        return configured(self.make_optimizer(self.parameters()), self.make_scheduler)

    @torch.no_grad()
    def predict(self, weight: np.ndarray) -> np.ndarray:
        return self.linear(torch.from_numpy(weight).float()[:, None])[:, 0].double().numpy()


@dataclass(frozen=True)
class ToyScores:
    table: pd.DataFrame
    remedy: ClassVar[str] = "pool folds"
    metrics: ClassVar[tuple[str, ...]] = ("mse",)
    headline: ClassVar[tuple[str, ...]] = ("mse",)
    untrusted: ClassVar[tuple[str, ...]] = ()

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self.table["model"].unique())

    @property
    def aggregate(self) -> pd.DataFrame:
        rows = []
        for model, own in self.table.groupby("model", sort=False):
            found = bootstrap_mean((own["said"] - own["price"]) ** 2, own["toy"], 100)
            rows.append({"model": model, "metric": "mse", "mean": found.mean, "low": found.low, "high": found.high,
                         "n": found.n, "best": 0.0, "worst": np.inf})  # fmt: skip
        return pd.DataFrame(rows)

    def summary(self, model: str, metric: str) -> pd.Series:
        table = self.aggregate
        return table[(table["model"] == model) & (table["metric"] == metric)].iloc[0]

    def difference(self, model: str, other: str, metric: str) -> Difference:  # noqa: ARG002
        errors = [
            own.sort_values("toy").assign(error=lambda t: (t["said"] - t["price"]) ** 2)
            for own in (self.table[self.table["model"] == name] for name in (model, other))
        ]
        gap = paired_difference(errors[0]["error"].to_numpy(), errors[1]["error"].to_numpy(), errors[0]["toy"], 100)
        return Difference(gap.mean, gap.low, gap.high, gap.n, f"{gap.n} toys")


@dataclass(frozen=True, kw_only=True)
class ScoredToyRun(ScoredRun):
    table: pd.DataFrame

    def write_units(self, folder: Path) -> None:
        self.table.to_parquet(folder / TOYS.file)


@dataclass(frozen=True)
class ToyEvaluation:
    """A model of toys beside a price of nothing."""

    task: ClassVar[str] = NAME
    scores_output: ClassVar[str] = "impact"
    baselines: dict[str, Any] = field(default_factory=dict)

    def require(self, data: ToyData) -> None:
        """All toys can be scored."""

    def require_model(self, data: ToyData, model: ToyModel, name: str) -> None:
        """So can all models of them."""

    def __call__(self, data: ToyData, model: ToyModel, name: str) -> ScoredToyRun:
        rows = np.flatnonzero(data.split.test)
        known = {"toy": rows, "fold": data.split.fold, "price": data.design.price[rows]}
        parts = [pd.DataFrame(known).assign(model=row, said=said) for row, said in
                 ((name, model.predict(WEIGHT[rows])), ("nothing", 0.0))]  # fmt: skip
        scores, roles = ToyScores(pd.concat(parts)), RowRoles(name, baselines=("nothing",))
        metrics = RunMetrics(
            task=NAME, predicts="impact", model=name, primary="mse", scale="price", roles=roles.by_name,
            aggregate=documents.rows(ScoreRow, scores.aggregate), verdict=verdict(scores, roles),
        )  # fmt: skip
        return ScoredToyRun(metrics=metrics, table=scores.table)


@dataclass(frozen=True)
class ToyResults(Results):
    roles: RowRoles
    table: pd.DataFrame

    @classmethod
    def of(cls, folder: Path, metrics: RunMetrics) -> "ToyResults":
        table = guarded(folder / TOYS.file, lambda path: TOYS.read(path.parent))
        return cls(RowRoles.of_metrics(metrics), table)

    @classmethod
    def pooled(cls, parts: Sequence["ToyResults"]) -> "ToyResults":
        return cls(parts[0].roles, pd.concat([part.table for part in parts]))

    @classmethod
    def averaged(cls, parts: Sequence["ToyResults"]) -> "ToyResults":
        keys = ["model", "toy", "fold", "price"]
        return cls(parts[0].roles, cls.pooled(parts).table.groupby(keys, sort=False, as_index=False)["said"].mean())

    @classmethod
    def side_by_side(cls, parts: Mapping[str, "ToyResults"]) -> "ToyResults":
        own = [part.table[part.table["model"] == part.roles.model].assign(model=name) for name, part in parts.items()]
        return cls(RowRoles(next(iter(parts))), pd.concat(own))

    @property
    def tested(self) -> tuple[int, ...]:
        return tuple(sorted(set(self.table["fold"])))

    @property
    def where(self) -> str:
        return ", ".join(map(str, self.tested))

    @property
    def units(self) -> frozenset[tuple[Any, ...]]:
        return frozenset((int(toy),) for toy in self.table["toy"])

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("mse",)

    def means(self) -> pd.DataFrame:
        return self.scores("mse").aggregate.pivot_table(index="model", columns="metric", values="mean", sort=False)

    def scores(self, primary: str) -> ToyScores:  # noqa: ARG002
        return ToyScores(self.table)


class ToySettings:
    def tested(self, table: Any) -> str:
        return f"fold {table.best.setting.results.where} of the toys"

    def notes(self, table: Any) -> list[str]:  # noqa: ARG002
        return ["toys are toys"]

    def calibration(self, table: Any) -> list[Any]:  # noqa: ARG002
        return []

    def chance(self, table: Any, metric: str) -> None:  # noqa: ARG002
        return None

    def tiles(self, table: Any, rows: Any, baseline: Any, column: Any) -> list[Any]:  # noqa: ARG002
        return tile(rows[0], "toy", column)

    def footnotes(self, table: Any, columns: Any) -> list[str]:  # noqa: ARG002
        return ["Prices are made up."]


@dataclass(frozen=True, eq=False, kw_only=True)
class ToyFolder(RunFolder):
    table: pd.DataFrame


def read_toys(folder: Path) -> ToyFolder:
    return ToyFolder(**shared_files(folder, RunMetrics, DataRecord), table=TOYS.read(folder))


def glance(run: ToyFolder) -> Values:
    table = ScoreTable.of(run.metrics)
    assert table.primary is not None
    return {"tiles": tile(table.rows[0], "toy", table.primary), "ladder": None}


def price_list(run: ToyFolder) -> Values:
    own = run.table[run.table["model"] == run.metrics.model]
    return {"said": f"{len(own)} prices <told>"}


class RestoredToys(Restored):
    task = NAME
    elsewhere = "make them anew"


def restore_toys(stored: dict[str, Any], path: Path, conf: Path) -> RestoredToys:
    model = ToyModel()
    model.load_state_dict(stored["state_dict"])
    return RestoredToys(model.eval(), "toy", path, stored["schema"], stored["restore"]["data"])


@dataclass(frozen=True)
class Prices:
    table: pd.DataFrame
    said: tuple[str, ...] = ("prices of new toys",)

    def write(self, path: Path, ending: str) -> None:  # noqa: ARG002
        self.table.to_csv(path, index=False)


@dataclass(frozen=True)
class ToyOptions:
    draws: int
    discount: float = 0.0


def answer(trained: RestoredToys, asked: ToyOptions) -> Prices:
    weight = np.linspace(-1, 1, asked.draws)
    return Prices(pd.DataFrame({"weight": weight, "price": trained.model.predict(weight) - asked.discount}))


TOY_TASK = Task(
    name=NAME,
    metrics=RunMetrics,
    results=ToyResults,
    page=RunPage(
        read_toys,
        (
            Section("glance", "", glance, "glance.html.j2", in_header=True),
            Section("prices", "Prices", price_list, "prices.html.j2", package="toy_task"),
        ),
    ),
    evaluators={"impact": Evaluator("evaluation=toys", Predicting("toys", ToyOptions, (".csv",), answer))},
    console=lambda report, title: [Text(title), *verdict_sentences("toy", report.metrics.verdict, {})],
    settings_text=ToySettings(),
    restorable=lambda design, model, data: {"task": NAME, "data": {}, "model": model},  # noqa: ARG005
    restore=restore_toys,
    data_advice="data=toys",
    model_advice="model=toy",
)
