"""Score a prediction, however it was made, by comparing it with the truth."""
