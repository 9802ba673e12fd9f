"""The tuner: which settings are worth changing on this machine."""
