"""DICOM of a reviewed result."""
