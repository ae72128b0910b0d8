"""`python -m segkit predict-video`, as a script."""

import sys

from segkit.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main(["predict-video", *sys.argv[1:]], script="predict_video.py"))
