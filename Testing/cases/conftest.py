"""Makes `rtuncertainty` and the helpers of `backend` importable without installing anything."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in (HERE.parents[1] / "RTUncertainty", HERE.parent / "backend", HERE):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
