"""Predictions as AnnData: mean profiles, cells drawn from a model, or control cells shifted to its predicted means."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from pydantic import Field

from pertexp.config.errors import DataError, MismatchError, RequestError, nearest
from pertexp.config.validate import typed
from pertexp.data.screens.profiles import Units
from pertexp.data.screens.reading import H5adFile
from pertexp.data.screens.scale import log_normalise
from pertexp.data.screens.screen import CONTROL, Scale, Screen
from pertexp.evaluation.screens.impact import require_impacts
from pertexp.evaluation.screens.moved import moved_counts, moved_logs
from pertexp.inference.trained import Trained
from pertexp.models.protocols import DrawsNamedCells, NamedPredictor
from pertexp.models.vocabulary import canonical

log = logging.getLogger(__name__)

Count = Annotated[int, Field(ge=1)]
FILE = tuple(field.name for field in fields(H5adFile) if field.name != "expected")


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """Options of `H5adFile`, of a file whose control cells are shifted; None: as in the data of the model."""

    path: str | None
    perturbation_key: str | None
    control: str | int | None
    context_key: str | list[str] | None
    gene_symbol_key: str | None
    scale: Scale | None
    layer: str | None
    recover_counts: bool | None
    depth_key: str | None
    where: dict[str, Any] | None
    separator: str | None
    fold_guides: str | None


@dataclass(frozen=True, kw_only=True)
class ImpactOptions:
    """Options of a prediction with a model of impacts.

    Attributes
    ----------
    perturbations, contexts
        By name; None: all that the model was trained with.
    """

    perturbations: list[str] | None
    contexts: list[str] | None


@dataclass(frozen=True, kw_only=True)
class ProfileOptions(ImpactOptions):
    """Options of a prediction with a model of profiles.

    Attributes
    ----------
    cells
        A perturbation; None: one mean profile each, or as many as the file holds.
    genes
        `shared` goes on where the file and the model have other genes.
    data
        The file whose control cells are moved.
    seed
        Of drawn and of moved cells.
    """

    cells: Count | None
    genes: Literal["refuse", "shared"]
    data: FileOptions
    seed: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, eq=False)
class ScreenAnswer:
    """An AnnData that other tools read as it is."""

    adata: Any

    @property
    def said(self) -> tuple[str, ...]:
        """Its shape and scale."""
        return (f"{self.adata.n_obs} rows × {self.adata.n_vars} genes, {self.adata.uns['scale']}",)

    def write(self, path: Path, ending: str) -> None:  # noqa: ARG002
        """As .h5ad."""
        self.adata.write_h5ad(path)


def answer(trained: Trained, asked: ProfileOptions) -> ScreenAnswer:
    """Return Profiles, drawn cells, or the control cells of a file, moved.

    Parameters
    ----------
    asked
        Perturbations, contexts, and cells or a file to move, where those are wanted.

    Raises
    ------
    MismatchError
        Where the model cannot be asked by name.
    """
    names, contexts = _named(trained, asked)
    cells, seed = asked.cells, asked.seed
    options = {name: value for name, value in asdict(asked.data).items() if value is not None}
    if "path" in options:
        adata = moved_cells(trained, options, names, contexts, cells, asked.genes == "shared", seed)
    elif cells:
        adata = drawn_cells(trained, names, contexts, cells, seed)
    else:
        adata = profiles(trained, names, contexts)
    return ScreenAnswer(adata)


def impacts(trained: Trained, asked: ImpactOptions) -> ScreenAnswer:
    """Return one row of impacts a perturbation and context.

    Parameters
    ----------
    asked
        Perturbations and contexts.

    Raises
    ------
    DataError
        Where an impact is negative or no finite number.
    """
    names, contexts = _named(trained, asked)
    labels, rows = [], []
    for context, units in _asked(trained, names, contexts):
        known = trained.model.vocabulary
        labels += [(known.perturbations[p], context) for p in units.perturbation]
        rows.append(trained.model.predict(units))
    values = np.concatenate(rows)
    require_impacts(values, tuple(name for name, _ in labels), trained.genes, f"{trained.name} predicts")
    return ScreenAnswer(_adata(trained, values.astype(np.float32), labels, trained.model.predicts.name))


def _named(trained: Trained, asked: ImpactOptions) -> tuple[list[str] | None, list[str] | None]:
    """Return canonical perturbations and contexts that are asked for; None for all."""
    _require_names(trained)
    names = None if asked.perturbations is None else canonical(asked.perturbations)
    contexts = None if asked.contexts is None else list(dict.fromkeys(asked.contexts))
    if contexts == []:
        raise RequestError("contexts=[] names none: type 'contexts=[A,B]', or leave it out for all.")
    return names, contexts


def _require_names(trained: Trained) -> None:
    if not isinstance(trained.model, NamedPredictor):
        raise MismatchError(
            f"{trained.name} cannot be asked for perturbations by name (it has no `units_named`, or no `vocabulary`): "
            f"score it on its own test units with python -m pertexp.evaluate ckpt={trained.run}"
        )


def profiles(trained: Trained, names: Sequence[str] | None, contexts: Sequence[str] | None) -> Any:
    """Return one mean profile a perturbation and context, controls first."""
    labels, rows = [], []
    for context, units in _asked(trained, names, contexts):
        predicted = trained.model.predict(units)
        rows += [trained.control[trained.model.vocabulary.context(context)][None], predicted]
        known = trained.model.vocabulary.perturbations
        labels += [(CONTROL, context), *((known[p], context) for p in units.perturbation)]
    return _adata(trained, np.concatenate(rows).astype(np.float32), labels, trained.schema["profile_scale"])


def drawn_cells(
    trained: Trained, names: Sequence[str] | None, contexts: Sequence[str] | None, cells: int, seed: int
) -> Any:
    """`cells` drawn counts a perturbation and context, and as many control cells, at size factors of control cells.

    Raises
    ------
    MismatchError
        Where the model predicts means alone.
    """
    model = trained.model
    if not isinstance(model, DrawsNamedCells):
        raise MismatchError(
            "this model predicts means and draws no cells: name control cells to move with data.path=..., "
            "or leave cells out."
        )
    rng = np.random.default_rng(seed)
    blocks, labels = [], []
    for context, asked in _asked(trained, names, contexts):
        place = model.vocabulary.context(context)
        units = Units(np.append(0, asked.perturbation), np.append(place, asked.context))
        rows = np.repeat(np.arange(len(units)), cells)
        size = np.quantile(trained.size_factors[place], rng.uniform(size=rows.size))
        blocks.append(sp.csr_matrix(model.sample(units.take(rows), size, int(rng.integers(2**62)))))
        labels += [(model.vocabulary.perturbations[units.perturbation[row]], context) for row in rows]
    return _adata(trained, sp.vstack(blocks, format="csr").astype(np.float32), labels, "counts")


def moved_cells(
    trained: Trained,
    options: dict[str, Any],
    names: Sequence[str] | None,
    contexts: Sequence[str] | None,
    cells: int | None,
    shared: bool,
    seed: int,
) -> Any:
    """Return the control cells of a file, and copies of them moved from the model's control profile to its prediction.

    Parameters
    ----------
    options
        Options of `H5adFile` that differ from those of the data that the model was trained on.
    names, contexts
        Perturbations and contexts to predict; those of the file where None.
    cells
        Cells a perturbation; as many as the file holds (or as controls) where None.
    shared
        Whether to go on with the genes that model and file share where they differ.

    Raises
    ------
    DataError
        On what the file lacks.
    MismatchError
        Where its scale is not that of the model.
    """
    source = _file(trained, options)
    screen = _on_scale_of(trained, _read(source, options))
    columns, places = _shared_genes(trained, screen, shared)
    screen = screen.take_genes(places)
    asked = list(names) if names is not None else [name for name in screen.perturbations if name != CONTROL]
    if not asked:
        raise DataError(f"{source.path} holds no perturbed cells: name what to predict with 'perturbations=[A,B]'.")
    size_factor = _size_factor(screen)
    blocks, labels = [], []
    for context in contexts or screen.contexts:
        block, of_block = _moved_in(trained, screen, size_factor, columns, asked, context, cells, seed)
        blocks += block
        labels += of_block
    return _adata(
        trained,
        sp.vstack(blocks, format="csr"),
        [(_label(name, source), context) for name, context in labels],
        screen.scale,
        genes=tuple(screen.genes),
        keys=(source.perturbation_key, source.context_key if isinstance(source.context_key, str) else "context"),
    )


def _moved_in(
    trained: Trained,
    screen: Screen,
    size_factor: np.ndarray,
    columns: np.ndarray,
    names: list[str],
    context: str,
    cells: int | None,
    seed: int,
) -> tuple[list[sp.csr_matrix], list[tuple[str, str]]]:
    """Return blocks of cells of one context, controls first, and the label of every cell.

    The predicted effect, a difference of profiles, is added to the profile of the file's own controls.
    """
    here = _place(context, screen.contexts, "the file")
    controls = np.flatnonzero((screen.perturbation == 0) & (screen.context == here))
    model_context = _model_context(trained, context)
    units = trained.model.units_named(names, model_context)
    known = trained.control[trained.model.vocabulary.context(model_context)][columns]
    before = _profile(screen, size_factor, controls)
    after = np.maximum(before + trained.model.predict(units)[:, columns] - known, 0.0)
    blocks, labels = [screen.expression[controls]], [(CONTROL, context)] * controls.size
    for row, name in enumerate(names):
        n = cells or _cells_of(screen, name, here) or controls.size
        rng = np.random.default_rng([seed, here, row])
        drawn = rng.choice(controls, n, replace=n > controls.size)
        if screen.scale == "counts":
            levels = np.expm1(before), np.expm1(after[row])
            blocks.append(moved_counts(screen.expression[drawn], size_factor[drawn], *levels, rng))
        else:
            blocks.append(moved_logs(screen.expression[drawn], before, after[row]))
        labels += [(name, context)] * n
    return blocks, labels


def _profile(screen: Screen, size_factor: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return `[G]` profile of some cells: log1p(Σy / Σs) of counts, else the mean."""
    total = np.asarray(screen.expression[rows].sum(axis=0, dtype=np.float64)).ravel()
    if screen.scale == "counts":
        profile: np.ndarray = np.log1p(total / size_factor[rows].sum())
        return profile
    return total / rows.size


def _asked(trained: Trained, names: Sequence[str] | None, contexts: Sequence[str] | None) -> list[tuple[str, Units]]:
    """Context by context, the units to predict: all that the model was trained with where nothing is named."""
    known = trained.model.vocabulary
    chosen = list(names) if names is not None else [name for name in known.perturbations if name != CONTROL]
    return [(context, trained.model.units_named(chosen, context)) for context in contexts or known.contexts]


def _file(trained: Trained, options: dict[str, Any]) -> H5adFile:
    """Return the file to read; what is not said is as in the data that the model was trained on."""
    as_trained = {key: value for key, value in trained.data.items() if key in FILE}
    return typed(H5adFile, {"perturbation_key": "perturbation", "control": CONTROL} | as_trained | options, "data")


def _read(source: H5adFile, options: dict[str, Any]) -> Screen:
    """Read the file; where a selection of the training data does not hold in it, the error says where it comes from."""
    try:
        return source.read()
    except DataError as fault:
        if "data.where" not in str(fault) or "where" in options:
            raise
        raise DataError(
            f"{fault} The selection is that of the data that the model was trained on: type 'data.where={{}}' "
            "for all cells."
        ) from fault


def _on_scale_of(trained: Trained, screen: Screen) -> Screen:
    """Bring the screen to the scale of the model: counts are normalised to the depth of its own."""
    wanted = trained.schema["scale"]
    if screen.scale == "counts" and wanted == "log1p" and trained.median_depth and screen.depth is not None:
        _require_counts(screen.depth)
        logs = log_normalise(screen.expression, screen.depth / trained.median_depth)
        return replace(screen, expression=logs, scale="log1p")
    if screen.scale != wanted:
        raise MismatchError(
            f"the model was trained on the scale {wanted}, but the file is on the scale {screen.scale}: name counts "
            "with data.layer=... data.scale=counts, or type data.recover_counts=true where log1p values came from them."
        )
    return screen


def _size_factor(screen: Screen) -> np.ndarray:
    """s = L / median(L) over the control cells of the file `[N]`; 1 off the count scale."""
    if screen.scale != "counts" or screen.depth is None:
        return np.ones(screen.n_cells)
    _require_counts(screen.depth)
    return screen.depth / float(np.median(screen.depth[screen.perturbation == 0]))


def _require_counts(depth: np.ndarray) -> None:
    if (depth <= 0).any():
        raise DataError("the file holds cells without counts: remove them, or name depths with data.depth_key=...")


def _shared_genes(trained: Trained, screen: Screen, shared: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return columns of the model's genes and of the file's, in the order of the file."""
    position = {gene: column for column, gene in enumerate(trained.genes)}
    places = np.array([place for place, gene in enumerate(screen.genes) if gene in position], dtype=np.int64)
    missing = sorted(set(trained.genes) - set(screen.genes))
    extra = sorted(set(screen.genes) - set(position))
    if not places.size:
        raise DataError(
            f"the file shares no gene with the model ({nearest(trained.genes[0], screen.genes)}): "
            "name gene symbols with data.gene_symbol_key=..."
        )
    if (missing or extra) and not shared:
        raise DataError(
            f"the file lacks {len(missing)} of the {len(trained.genes)} genes that the model predicts "
            f"({', '.join(missing[:3]) or 'none'}) and holds {len(extra)} others ({', '.join(extra[:3]) or 'none'}): "
            f"type genes=shared to predict the {places.size} that both have."
        )
    if missing or extra:
        log.warning(
            "predicted on %d shared genes; %d are missing, %d others left out", places.size, len(missing), len(extra)
        )
    return np.array([position[gene] for gene in screen.genes[places]]), places


def _model_context(trained: Trained, context: str) -> str:
    """Return the model's context of that name, or its only one."""
    known = trained.model.vocabulary.contexts
    if context in known or len(known) > 1:
        return known[_place(context, known, "the model")]
    return known[0]


def _place(context: str, known: tuple[str, ...], where: str) -> int:
    if context not in known:
        raise DataError(
            f"{where} has no context {context!r}; {nearest(context, known)} Name some with 'contexts=[...]', or the "
            "column that holds them with data.context_key=..."
        )
    return known.index(context)


def _cells_of(screen: Screen, name: str, context: int) -> int:
    if name not in screen.perturbations:
        return 0
    return int(((screen.perturbation == screen.perturbations.index(name)) & (screen.context == context)).sum())


def _label(name: str, source: H5adFile) -> str:
    """Control cells bear the label that they have in the file, so that both files are read alike."""
    return str(source.control) if name == CONTROL else name


def _adata(
    trained: Trained,
    values: Any,
    labels: list[tuple[str, str]],
    scale: str,
    genes: tuple[str, ...] | None = None,
    keys: tuple[str, str] = ("perturbation", "context"),
) -> Any:
    import anndata

    obs = pd.DataFrame(labels, columns=list(keys), dtype="category")
    obs.index = pd.Index([f"{row}" for row in range(len(obs))])
    return anndata.AnnData(
        X=values,
        obs=obs,
        var=pd.DataFrame(index=pd.Index(genes or trained.genes, dtype=str)),
        uns={
            "scale": scale,
            "predicts": trained.model.predicts.name,
            "model": trained.name,
            "run": str(trained.run),
            "split_hash": str(trained.schema["split_hash"]),
            "fold": int(trained.schema["fold"]),
        },
    )
