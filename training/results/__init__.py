"""`docs/results.md`: every recorded figure of every model, beside what the papers claim."""
