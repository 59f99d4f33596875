"""Training and measuring the face detector: scenes, augmentation, cells, loss, run, figures."""
