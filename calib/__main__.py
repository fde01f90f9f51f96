"""`python -m calib` is `psfbank`."""

from calib.commands import main

main()
