"""Which control cells are held out: the reference of true effects, which nothing fitted has seen.

Training effects and test truth that subtract the same mean of control cells share its sampling noise, and any model of
the mean effect predicts that noise. So a share of the control cells of each context is held out: predicted effects are
against the fitted controls, true effects against the held-out ones.
"""

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from pertexp.config.errors import RequestError

FEWEST = 20  # control cells of a context, of which some can be held out
ENOUGH = 50  # below, both halves are small, which is said


@dataclass(frozen=True, kw_only=True)
class ControlSplit:
    """The control cells of each context, split once for all folds.

    Attributes
    ----------
    held_out
        Share of the control cells of a context that takes no part in fitting; 0 holds out none.
    seed
        Which of them.

    Raises
    ------
    RequestError
        Where the share is not from 0 to below 1.
    """

    held_out: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise RequestError(
                f"data.split.controls.held_out={self.held_out} is no share: type a number from 0 to below 1, such as "
                "0.5 for half of the control cells of each context."
            )

    @property
    def text(self) -> str:
        """What the hash of a split covers."""
        return f"controls,held_out={self.held_out!r},seed={self.seed}\n"

    def count(self, n_cells: int) -> int:
        """Return how many of the control cells of a context are held out: none of fewer than 20, at most all but 1."""
        return 0 if n_cells < FEWEST else min(round(self.held_out * n_cells), n_cells - 1)

    def cells(self, control: np.ndarray, context: np.ndarray, contexts: tuple[str, ...]) -> np.ndarray:
        """Return `[N]` mask of the control cells that are held out.

        The draw in a context depends on the seed, its name and its number of control cells alone.

        Parameters
        ----------
        control
            `[N]` mask of the control cells.
        context, contexts
            `[N]` contexts of the cells as indices of their names.
        """
        held_out = np.zeros(control.size, dtype=bool)
        for code, name in enumerate(contexts):
            own = np.flatnonzero(control & (context == code))
            rng = np.random.default_rng([self.seed, crc32(name.encode())])
            held_out[own[rng.permutation(own.size)[: self.count(own.size)]]] = True
        return held_out
