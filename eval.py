"""`python -m segkit eval`, as a script."""

import sys

from segkit.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main(["eval", *sys.argv[1:]], script="eval.py"))
