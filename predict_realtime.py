"""`python -m segkit predict-realtime`, as a script."""

import sys

from segkit.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main(["predict-realtime", *sys.argv[1:]], script="predict_realtime.py"))
