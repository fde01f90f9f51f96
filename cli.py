"""Run psfbank from a checkout: `python cli.py ...` is `psfbank ...`."""

from calib.commands import main

if __name__ == "__main__":
    main()
