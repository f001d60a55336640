"""Scans from files as scanners and clinics write them: DICOM slices and frames, and what headers say."""
