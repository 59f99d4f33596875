"""Models that were made elsewhere: from Keras and TensorFlow files to served model folders."""
