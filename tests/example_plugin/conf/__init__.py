"""The choices that this package adds to those of pertexp."""
