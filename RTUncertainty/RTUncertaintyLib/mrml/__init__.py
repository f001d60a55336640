"""Nodes in and out: volumes, segmentations, tables, plots, the subject hierarchy, exports."""
