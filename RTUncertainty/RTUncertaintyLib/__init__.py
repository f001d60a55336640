"""What the RTUncertainty modules share: everything that touches slicer, qt and MRML."""
