"""`python -m dubio` is the command `dubio`."""

from dubio.cli.main import main

if __name__ == "__main__":
    main()
