"""The two graphs of GEARS, and how names of perturbations become nodes."""

import logging
from collections.abc import Sequence

import numpy as np

from pertexp.config.errors import DataError, RequestError, nearest
from pertexp.data.screens.annotations import Annotation
from pertexp.data.screens.design import Design
from pertexp.data.screens.screen import members
from pertexp.models.gears.network import Sets
from pertexp.models.gears.options import Neighbours, Ontology, Signs
from pertexp.nn.graph import Graph, normalised
from pertexp.nn.similarity import correlation_graph, jaccard_graph

log = logging.getLogger(__name__)


def coexpression_graph(design: Design, options: Neighbours) -> Graph:
    """Return genes correlated in control cells and cells of single training perturbations, as cell-gears takes them."""
    single = np.array([len(members(name)) <= 1 for name in design.screen.perturbations])
    cells = design.cells("train", "control") & single[design.screen.perturbation]
    return normalised(correlation_graph(design.screen.expression[cells], options.k, options.threshold))


def perturbation_graph(
    design: Design, annotation: Annotation, options: Ontology, signs: Signs
) -> tuple[tuple[str, ...], Graph]:
    """Return names of the nodes, and the graph of genes that share terms.

    Raises
    ------
    DataError
        With `outside=refuse`, where a perturbed gene has no term: the genes are named.
    """
    perturbed = {signs.split(target)[0] for name in design.screen.perturbations for target in members(name)}
    outside = sorted(perturbed - set(annotation.genes))
    if outside and options.outside == "refuse":
        raise DataError(
            f"{len(outside)} perturbed genes have no term in data.annotation ({', '.join(outside[:8])}; for "
            f"'{outside[0]}' {nearest(outside[0], annotation.genes)}): rename them, leave them out with data.where, or "
            "type model.ontology.outside=identity."
        )
    if outside:
        log.warning(
            "%d perturbed genes have no term in data.annotation, so they have no neighbour and are learnt alone: %s",
            len(outside), ", ".join(outside[:12]),
        )  # fmt: skip
    known = perturbed | set(design.screen.genes.tolist())
    nodes = tuple(sorted(known | set(annotation.genes) if options.nodes == "annotated" else known))
    return nodes, normalised(jaccard_graph(annotation.rows(nodes), options.k, options.threshold))


def as_sets(targets: Sequence[Sequence[str]], nodes: Sequence[str], signs: Signs) -> Sets:
    """Return lists of targets as lists of nodes.

    Raises
    ------
    RequestError
        Where a target is no node of the graph: it is named, with those that look like it.
    """
    place = {node: number for number, node in enumerate(nodes)}
    rows = []
    for own in targets:
        signed = [signs.split(target) for target in own]
        for gene, _ in signed:
            if gene not in place:
                raise RequestError(
                    f"gene {gene} is not in the perturbation graph of this model ({len(place)} genes): "
                    f"{nearest(gene, place)} With model.ontology.nodes=annotated a model knows every annotated gene."
                )
        rows.append([(place[gene], sign) for gene, sign in signed])
    return Sets.of(rows)
