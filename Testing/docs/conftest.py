"""Makes the project and this folder importable without installing anything."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "training"), str(HERE.parents[1]), str(HERE.parents[1] / "RTUncertainty")]
