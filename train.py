"""`python -m segkit train`, as a script."""

import sys

from segkit.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main(["train", *sys.argv[1:]], script="train.py"))
