"""`python -m symfx`: the command line without an installed script."""

from symfx.cli import main

if __name__ == "__main__":
    main()
