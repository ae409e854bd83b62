"""Pure tensor maths: likelihoods, estimators, layers. No Lightning, no Hydra, no file."""
