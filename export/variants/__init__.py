"""Smaller variants of a served model: int8 and fp16, measured against it before one is kept."""
