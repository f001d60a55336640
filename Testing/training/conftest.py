"""Makes `rtuncertainty` and `training` importable without installing anything."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT, ROOT / "RTUncertainty", Path(__file__).parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
