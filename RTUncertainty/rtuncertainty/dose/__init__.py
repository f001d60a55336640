"""Dose: reading it, dose-volume histograms with their bands, and the gamma index.

Doses are in Gy, volumes in ml, lengths in mm and points in LPS. torch is imported where it computes, not here.
"""
