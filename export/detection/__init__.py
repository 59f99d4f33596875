"""From a detector's `model.keras` to its served folder."""
