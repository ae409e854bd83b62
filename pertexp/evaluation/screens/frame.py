"""The evaluation frame: predictions and truth, one row per held-out perturbation and context."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import pandas as pd

from pertexp.config.errors import DataError, RequestError, nearest
from pertexp.data.screens.gene_symbols import current
from pertexp.data.screens.screen import CONTROL, JOIN, members
from pertexp.evaluation.roles import REPLICATE, TRUTH
from pertexp.metrics.core import Scored
from pertexp.metrics.output import OutputName

_TESTS = ("de_score", "de_fdr", "shared_de_score", "shared_de_fdr", "rest_score")
_CONTROLS = ("control", "held_out_control", "shared_control")
_TABLES = ("truth", *_CONTROLS, "train_mean", *_TESTS)
_BY_UNIT = ("held_out_control", *_TESTS)  # rows of NaN where a unit has none
_HALVES = ("replicate_a", "replicate_b")
_BASELINE = "baseline:"
NOT_GIVEN = np.empty((0, 0))
F = TypeVar("F", bound="EvaluationFrame")


@dataclass(frozen=True, eq=False)
class EvaluationFrame:
    """Predictions and truth on the same units and genes: all that a metric may use.

    Attributes
    ----------
    perturbation, context
        `[U]` canonical perturbation names (`A`, `A+B`) and context names.
    fold
        `[U]` integer fold in which the unit was held out.
    genes
        `[G]` gene names, unique.
    scale
        What the numbers are, declared: `log1p of counts per median depth`.
    truth
        `[U, G]` mean profile of the unit's cells.
    control
        `[U, G]` mean profile of the control cells of its context that models are fitted on.
    train_mean
        `[U, G]` control plus the mean effect of the fold's training perturbations.
    predictions
        `[U, G]` profiles by name: the model first, then the baselines.
    seen
        `[U]` how many members of the perturbation were seen in training.
    held_out_control, shared_control
        `[U, G]` mean profile of the control cells that are held out, NaN rows where none are; and of all of them. Not
        given: those of `control`.
    de_score, de_fdr
        `[U, G]` |t| of the unit's cells against held-out control cells, and p-values of a Wilcoxon test, adjusted
        within the unit; NaN rows where there are no cells to test on.
    shared_de_score, shared_de_fdr
        The same against all control cells; not given: those against held-out ones.
    rest_score
        `[U, G]` |t| of the unit's cells against those of all other perturbations of its context; NaN rows where there
        are none.
    replicate
        Profiles of two disjoint halves of the unit's cells, `[R, U, G]` each for R random splits (`[U, G]` for one),
        or None where the data hold no cells.

    Raises
    ------
    DataError
        Where shapes differ, numbers are not finite, a unit appears twice, or its name is not canonical.
    """

    predicts: ClassVar[OutputName] = "profile"
    same_scale: ClassVar[bool] = True  # predictions are on the scale of the truth, so that equal numbers are perfect

    perturbation: tuple[str, ...]
    context: tuple[str, ...]
    fold: np.ndarray
    genes: tuple[str, ...]
    scale: str
    truth: np.ndarray
    control: np.ndarray
    train_mean: np.ndarray
    de_score: np.ndarray
    predictions: dict[str, np.ndarray]
    seen: np.ndarray
    replicate: tuple[np.ndarray, np.ndarray] | None = field(default=None)
    held_out_control: np.ndarray = field(default_factory=lambda: NOT_GIVEN)
    shared_control: np.ndarray = field(default_factory=lambda: NOT_GIVEN)
    de_fdr: np.ndarray = field(default_factory=lambda: NOT_GIVEN)
    shared_de_score: np.ndarray = field(default_factory=lambda: NOT_GIVEN)
    shared_de_fdr: np.ndarray = field(default_factory=lambda: NOT_GIVEN)
    rest_score: np.ndarray = field(default_factory=lambda: NOT_GIVEN)

    def __post_init__(self) -> None:
        self._set("perturbation", tuple(map(str, self.perturbation)))
        self._set("context", tuple(map(str, self.context)))
        self._set("genes", tuple(map(str, self.genes)))
        self._set("fold", _integers("fold", self.fold))
        self._set("seen", _integers("seen", self.seen))
        for name in _TABLES:
            self._set(name, _table(name, getattr(self, name)))
        self._fill_up()
        self._set("predictions", {k: _table(f"prediction {k}", v) for k, v in self.predictions.items()})
        if self.replicate is not None:
            self._set("replicate", tuple(map(_splits, _HALVES, self.replicate)))
        self._check_names()
        self._check_units()
        self._check_tables()

    @property
    def n_units(self) -> int:
        """Number of units U."""
        return len(self.perturbation)

    @property
    def n_splits(self) -> int:
        """Number of splits of the cells into halves."""
        return 0 if self.replicate is None else len(self.replicate[0])

    @property
    def models(self) -> tuple[str, ...]:
        """Names of all that can be scored: predictions in order, the truth, and the replicate where there is one."""
        return (*self.compared, *((REPLICATE,) if self.replicate is not None else ()))

    @property
    def compared(self) -> tuple[str, ...]:
        """Names of all that is compared with all cells: the predictions, and the truth as one."""
        return (*self.predictions, TRUTH)

    def predicted(self, name: str) -> np.ndarray:
        """Return the table `[U, G]` of a prediction; for `truth` what a model would predict that knows the truth."""
        return self._as_predicted(self.truth) if name == TRUTH else self.predictions[name]

    @property
    def own_target(self) -> np.ndarray:
        """`[U, G]` the gene is a member of the unit's perturbation, under its own symbol or a former one."""
        columns: dict[str, list[int]] = {}
        for column, gene in enumerate(self.genes):
            columns.setdefault(current(gene), []).append(column)
        mask = np.zeros((self.n_units, len(self.genes)), dtype=bool)
        for u, name in enumerate(self.perturbation):
            mask[u, [column for gene in members(name) for column in columns.get(current(gene), [])]] = True
        return mask

    def scored(self, name: str, split: int = 0) -> Scored:
        """Show a metric one prediction; for `replicate` one half of a split of the cells predicts the other."""
        if name not in self.models:
            raise RequestError(f"no prediction {name!r} in the evaluation frame; {nearest(name, self.models)}")
        return self._view(*self._sides(name, split))

    def scored_on_half(self, name: str, split: int) -> Scored:
        """Show a metric one prediction and the half of the cells on which the replicate of a split is scored."""
        if self.replicate is None:
            raise RequestError("the evaluation frame holds no halves of cells to score on.")
        return self._view(self.predicted(name), self.replicate[1][split])

    def _view(self, prediction: np.ndarray, truth: np.ndarray) -> Scored:
        own = self.own_target
        return Scored(
            prediction=prediction,
            truth=truth,
            **{name: getattr(self, name) for name in _TABLES if name != "truth"},
            context=np.unique(np.array(self.context), return_inverse=True)[1],
            fold=self.fold,
            own_target=own,
            panel_target=np.asarray(own.any(axis=0)),
            counted=np.ones_like(own),
        )

    def effects(self, name: str, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the observed and the predicted change of one unit, `[G]` each, each against its own controls."""
        return self.truth[row] - self.reference[row], self.predictions[name][row] - self.control[row]

    @property
    def reference(self) -> np.ndarray:
        """`[U, G]` what true effects are against: held-out control cells; all of them where none are held out."""
        held_out = np.isfinite(self.held_out_control).all(axis=1, keepdims=True)
        reference: np.ndarray = np.where(held_out, self.held_out_control, self.shared_control)
        return reference

    def _as_predicted(self, profile: np.ndarray) -> np.ndarray:
        """Return what a profile `[U, G]` of cells says, as models predict it."""
        return profile

    def to_anndata(self, model: str) -> Any:
        """Make an AnnData: X is the prediction of `model`; truth, references and baselines are layers."""
        import anndata

        if model not in self.predictions:
            raise RequestError(f"no prediction {model!r} to write; {nearest(model, self.predictions)}")
        baselines = [name for name in self.predictions if name != model]
        layers = {name: getattr(self, name) for name in _TABLES}
        layers |= self._half_tables()
        layers |= {_BASELINE + name: self.predictions[name] for name in baselines}
        return anndata.AnnData(
            X=self.predictions[model],
            obs=self._obs(),
            var=pd.DataFrame(index=pd.Index(self.genes, dtype=str)),
            layers=layers,
            uns={
                "scale": self.scale,
                "predicts": self.predicts,
                "model": model,
                "baselines": "\n".join(baselines),
            },
        )

    @classmethod
    def from_anndata(cls, adata: Any) -> Self:
        """Read what `to_anndata` wrote; any other AnnData is refused with a `DataError`."""
        _refuse_other_files(adata)
        if adata.uns["predicts"] != cls.predicts:
            raise DataError(f"the file holds predicted {adata.uns['predicts']}; expected {cls.predicts}.")
        baselines = str(adata.uns["baselines"]).split("\n") if adata.uns["baselines"] else []
        splits = range(_splits_in(adata))
        halves = [[adata.layers[f"{name}_{split}"] for split in splits] for name in _HALVES]
        predictions = {str(adata.uns["model"]): adata.X}
        predictions |= {name: adata.layers[_BASELINE + name] for name in baselines}
        return cls(
            perturbation=tuple(adata.obs["perturbation"].astype(str)),
            context=tuple(adata.obs["context"].astype(str)),
            fold=adata.obs["fold"].to_numpy(),
            genes=tuple(adata.var_names),
            scale=str(adata.uns["scale"]),
            predictions=predictions,
            seen=adata.obs["seen"].to_numpy(),
            replicate=(np.stack(halves[0]), np.stack(halves[1])) if splits else None,
            **{name: adata.layers[name] for name in _TABLES},
        )

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _sides(self, name: str, split: int) -> tuple[np.ndarray, np.ndarray]:
        if name == REPLICATE and self.replicate is not None:
            return self._as_predicted(self.replicate[0][split]), self.replicate[1][split]
        return self.predicted(name), self.truth

    def _fill_up(self) -> None:
        """Fill tables that are not given: nothing was tested, and all control cells are fitted."""
        alike = {"held_out_control": "control", "shared_control": "control"}
        alike |= {f"shared_{name}": name for name in ("de_score", "de_fdr")}
        for name in ("rest_score", "de_fdr", *alike):
            if getattr(self, name).size == 0:
                same = alike.get(name)
                self._set(name, getattr(self, same) if same else np.full_like(self.truth, np.nan))

    def _half_tables(self) -> dict[str, np.ndarray]:
        """Return every half of every split by the name of its layer: `replicate_a_0`, ..."""
        sides = zip(_HALVES, self.replicate or (), strict=False)
        return {f"{name}_{split}": table for name, side in sides for split, table in enumerate(side)}

    def _obs(self) -> pd.DataFrame:
        units = zip(self.fold, self.context, self.perturbation, strict=True)
        return pd.DataFrame(
            {
                "perturbation": pd.Categorical(self.perturbation),
                "context": pd.Categorical(self.context),
                "fold": self.fold,
                "seen": self.seen,
            },
            index=pd.Index([f"{fold}|{context}|{name}" for fold, context, name in units]),
        )

    def _check_names(self) -> None:
        if not self.perturbation or not self.genes:
            raise DataError("the evaluation frame is empty; expected at least one unit and one gene.")
        _refuse_repeats("gene", self.genes)
        if not self.predictions:
            raise DataError("the evaluation frame holds no prediction; expected the model's and the baselines'.")
        for name in self.predictions:
            if name in ("", REPLICATE, TRUTH) or "/" in name or "\n" in name:
                raise DataError(
                    f"{name!r} cannot name a prediction: give it a name without slash or line break other "
                    f"than {REPLICATE!r} and {TRUTH!r}."
                )

    def _check_units(self) -> None:
        for name in ("context", "fold", "seen"):
            if len(getattr(self, name)) != self.n_units:
                raise DataError(
                    f"{name} of the evaluation frame has {len(getattr(self, name))} entries; "
                    f"expected one per unit, {self.n_units}."
                )
        for name in set(self.perturbation):
            _refuse_uncanonical(name)
        _refuse_repeats("unit", zip(self.fold.tolist(), self.context, self.perturbation, strict=True))
        size = np.array([len(members(name)) for name in self.perturbation])
        if (self.seen < 0).any() or (self.seen > size).any():
            unit = self.perturbation[int(np.argmax((self.seen < 0) | (self.seen > size)))]
            raise DataError(f"seen of {unit} is out of range; expected 0 up to its number of members.")

    def _check_tables(self) -> None:
        finite = {name: getattr(self, name) for name in _TABLES if name not in _BY_UNIT} | {
            f"prediction {name}": table for name, table in self.predictions.items()
        }
        finite |= self._half_tables()
        by_unit = {name: getattr(self, name) for name in _BY_UNIT}
        for name, table in {**finite, **by_unit}.items():
            _refuse_shape(name, table, (self.n_units, len(self.genes)))
        for name, table in finite.items():
            if not np.isfinite(table).all():
                raise DataError(f"{name} of the evaluation frame has NaN or infinite entries; expected numbers.")
        for name, table in by_unit.items():
            missing = np.isnan(table)
            if (missing.any(axis=1) != missing.all(axis=1)).any() or (name in _TESTS and (table < 0).any()):
                raise DataError(f"{name} has negative or single NaN entries; expected none, or NaN for a whole unit.")


def concatenate(frames: Sequence[F]) -> F:
    """Pool the units of several frames, as of folds; predictions that are not in every frame are left out.

    Raises
    ------
    DataError
        Where genes or scale differ, no prediction is common, or a unit repeats.
    """
    if not frames:
        raise DataError("there is no evaluation frame to concatenate; expected one per fold.")
    first = frames[0]
    for other in frames[1:]:
        _refuse_unlike(first, other)
    names = [name for name in first.predictions if all(name in frame.predictions for frame in frames)]
    halves = [frame.replicate for frame in frames if frame.replicate is not None]
    return type(first)(
        perturbation=tuple(name for frame in frames for name in frame.perturbation),
        context=tuple(name for frame in frames for name in frame.context),
        fold=np.concatenate([frame.fold for frame in frames]),
        genes=first.genes,
        scale=first.scale,
        predictions={name: np.concatenate([frame.predictions[name] for frame in frames]) for name in names},
        seen=np.concatenate([frame.seen for frame in frames]),
        replicate=_joined_halves(halves) if len(halves) == len(frames) else None,
        **{name: np.concatenate([getattr(frame, name) for frame in frames]) for name in _TABLES},
    )


def _joined_halves(halves: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Pooled halves of as many splits as all frames have."""
    n = min(len(a) for a, _ in halves)
    return np.concatenate([a[:n] for a, _ in halves], axis=1), np.concatenate([b[:n] for _, b in halves], axis=1)


def _splits(name: str, values: Any) -> np.ndarray:
    array = _table(name, values)
    return array[None] if array.ndim == 2 else array


def _splits_in(adata: Any) -> int:
    """Return the number of splits whose two halves are stored."""
    number: int = min(sum(layer.startswith(f"{name}_") for layer in adata.layers) for name in _HALVES)
    return number


def _table(name: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{name} of the evaluation frame is no dense table of numbers; expected one.") from None


def _integers(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1 or not (array.size == 0 or np.issubdtype(array.dtype, np.integer)):
        raise DataError(f"{name} of the evaluation frame is {array.dtype}; expected one whole number per unit.")
    return array.astype(np.int64)


def _refuse_repeats(what: str, names: Iterable[Any]) -> None:
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise DataError(f"{what} {name} appears {count} times in the evaluation frame; expected once.")


def _refuse_uncanonical(name: str) -> None:
    parts = name.split(JOIN)
    if name == CONTROL or CONTROL in parts or "" in parts:
        raise DataError(f"{name!r} is no perturbation to score; expected names such as 'A' or 'A{JOIN}B'.")
    if parts != sorted(set(parts)):
        raise DataError(f"perturbation {name!r} is not canonical; write {JOIN.join(sorted(set(parts)))!r}.")


def _refuse_shape(name: str, table: np.ndarray, expected: tuple[int, int]) -> None:
    if table.shape != expected:
        raise DataError(
            f"{name} of the evaluation frame has shape {table.shape}; expected (units, genes) = {expected}."
        )


def _refuse_unlike(first: EvaluationFrame, other: EvaluationFrame) -> None:
    if first.genes != other.genes:
        raise DataError("the evaluation frames differ in genes; expected the same in the same order.")
    if first.scale != other.scale:
        raise DataError(f"evaluation frames have scales {first.scale!r} and {other.scale!r}; expected one.")


def _refuse_other_files(adata: Any) -> None:
    wanted = {
        "obs": ({"perturbation", "context", "fold", "seen"}, adata.obs.columns),
        "uns": ({"scale", "predicts", "model", "baselines"}, adata.uns),
        "layers": (set(_TABLES), adata.layers),
    }
    missing = [f"{part}[{key!r}]" for part, (keys, held) in wanted.items() for key in sorted(keys - set(held))]
    if not missing:
        listed = [_BASELINE + name for name in str(adata.uns["baselines"]).split("\n") if name]
        splits = {layer.rpartition("_")[2] for layer in adata.layers if layer.startswith(_HALVES)}
        needed = listed + [f"{name}_{split}" for name in _HALVES for split in sorted(splits)]
        missing = [f"layers[{name!r}]" for name in needed if name not in adata.layers]
    if missing:
        raise DataError(
            f"this AnnData is no evaluation frame: it lacks {', '.join(missing)}; "
            "give a file that EvaluationFrame.to_anndata made."
        )
