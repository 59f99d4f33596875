"""mien: faces in an image, each with emotion, gender and age band."""

__version__ = "0.1.0"
