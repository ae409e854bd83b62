"""What a model may offer beside its training: the contracts, by name.

A contract that training itself relies on is defined there, and named here.
"""

from pertexp.training.plan import Part, Staged, StageEpoch

__all__ = ["Part", "StageEpoch", "Staged"]
