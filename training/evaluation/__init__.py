"""Scores of synthetic-CT networks against the reference CT, per patient and between networks.

case: one patient with all that a network said of it · score: one row of numbers and the curves of a patient ·
synthrad: PSNR and SSIM as the SynthRAD challenges take them · uncertainty: sparsification, calibration of intervals ·
store: rows.json, from which networks are compared without their images · compare, significance, tables, figures:
the papers' tables, tests and plots of several networks over the same patients.
"""
