"""From samples to error bars: calibration of HU and volumes, distributions, quality, flags, metrics."""
