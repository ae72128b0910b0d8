"""`python -m segkit augment-data`, as a script; it may be started in any folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from segkit.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main(["augment-data", *sys.argv[1:]], script="augment_data.py"))
