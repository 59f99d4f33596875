"""Batching, the pipeline and metrics: knows neither ONNX nor HTTP."""
