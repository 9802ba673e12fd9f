"""Single operations, timed by pytest-benchmark: pytest bench"""
