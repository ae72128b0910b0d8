"""`python -m segkit convert-to-tensorrt`, as a script."""

import sys

from segkit.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main(["convert-to-tensorrt", *sys.argv[1:]], script="convert_to_tensorRT.py"))
