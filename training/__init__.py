"""Datasets, networks and recipes; imports `service.vision`, so that both frame a face alike."""
