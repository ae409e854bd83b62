"""Options of GEARS (`model.*`)."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pertexp.config.errors import RequestError
from pertexp.config.validate import NO_OTHERS
from pertexp.models.gears.network import Scope


@dataclass(frozen=True)
class Neighbours:
    """Neighbours in a graph: the k most similar of each node, where similarity > threshold; a chain of convolutions."""

    __pydantic_config__: ClassVar = NO_OTHERS

    k: int = 20
    threshold: float = 0.4
    layers: int = 1


@dataclass(frozen=True)
class Ontology(Neighbours):
    """The perturbation graph, of genes that share terms.

    `nodes`: the genes of the screen (measured ∪ perturbed), or all `annotated` ones as well. `outside`: a perturbed
    gene without a term hears itself alone (`identity`), or is refused.
    """

    __pydantic_config__: ClassVar = NO_OTHERS

    threshold: float = 0.1
    nodes: Literal["screen", "annotated"] = "screen"
    outside: Literal["identity", "refuse"] = "identity"


@dataclass(frozen=True)
class Signs:
    """Endings of the names of targets that say in which direction a gene is moved; a bare name is +."""

    __pydantic_config__: ClassVar = NO_OTHERS

    activation: str | None = None
    knock_out: str | None = None

    def split(self, target: str) -> tuple[str, float]:
        """Return the gene and the sign that a name says: with `knock_out=_KO`, `KLF1_KO` → (`KLF1`, −1)."""
        for ending, sign in ((self.activation, 1.0), (self.knock_out, -1.0)):
            if ending and target.endswith(ending) and target != ending:
                return target[: -len(ending)], sign
        return target, 1.0


@dataclass(frozen=True)
class GearsOptions:
    """Everything that `model.*` sets; the group's YAML file says what each is for."""

    __pydantic_config__: ClassVar = NO_OTHERS

    name: str = "gears"
    hidden_size: int = 64
    coexpress: Neighbours = field(default_factory=Neighbours)
    coexpress_scope: Scope = "all"
    ontology: Ontology = field(default_factory=Ontology)
    reference_mode: bool = False
    signs: Signs = field(default_factory=Signs)
    encoder_lr_factor: float = 0.1
    clip: bool = False

    def __post_init__(self) -> None:
        if self.hidden_size < 1:
            raise RequestError(f"model.hidden_size={self.hidden_size}: expected a width of at least 1.")
        if not self.encoder_lr_factor > 0:
            raise RequestError(f"model.encoder_lr_factor={self.encoder_lr_factor}: expected a factor above 0.")
        for name in ("coexpress", "ontology"):
            graph: Neighbours = getattr(self, name)
            for key, least in (("k", 0), ("layers", 0), ("threshold", 0)):
                if not getattr(graph, key) >= least:
                    raise RequestError(f"model.{name}.{key}={getattr(graph, key)}: expected at least {least}.")
        if self.reference_mode and self.coexpress_scope == "none":
            raise RequestError(
                "model.reference_mode=true lets the co-expression graph act in the first cell of a batch, as released, "
                "and model.coexpress_scope=none in no cell: give one of them."
            )

    @property
    def scope(self) -> Scope:
        """Where the co-expression graph acts."""
        return "first_cell" if self.reference_mode else self.coexpress_scope
