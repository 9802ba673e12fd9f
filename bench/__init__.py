"""Benchmarks of the queue: many real processes, bare SQLite beside it, and exact costs (`python -m bench --help`)."""
