"""The only place that knows HTTP and imports FastAPI."""
