"""The one error of the benchmark."""


class BenchError(Exception):
    """The benchmark cannot go on; the message says why and what to do, and is all the user sees."""
