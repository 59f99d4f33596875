"""From `model.keras` to a served `model.onnx` with its card."""
