"""A module for each peer. It runs in the peer's environment: of other packages it may import the peer alone."""
