"""Cross-entropy over the images that have a label, since each image has labels for some heads."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("mien")
class MaskedCrossentropy(keras.losses.Loss):
    """Mean categorical cross-entropy of the labelled rows; `guided_fusion_2024.txt`, section 3.3.

    A target row of zeros means that the image has no label for this head.
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Per-image terms whose mean over the batch is the mean over its labelled images.

        Args:
            y_true: (N, K) shares that sum to 1, or zeros.
            y_pred: (N, K) logits.

        Returns:
            float32 (N,).
        """
        y_true = ops.cast(y_true, "float32")
        terms = -ops.sum(y_true * ops.log_softmax(ops.cast(y_pred, "float32"), axis=-1), axis=-1)
        labelled = ops.cast(ops.any(y_true > 0, axis=-1), "float32")
        share = ops.mean(labelled)
        return terms / ops.maximum(share, 1e-6)
