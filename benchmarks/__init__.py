"""What is timed, each against its bound and in one run; `python -m benchmarks`."""
