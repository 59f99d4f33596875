"""The only place that imports ONNX Runtime."""

import os

# ONNX Runtime >= 1.29 sends telemetry by default; it reads this once, when it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
