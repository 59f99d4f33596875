"""Pure functions on arrays: no state, no model, no network."""
