"""`python -m everyflop` is `everyflop`."""

from everyflop.cli.main import main

if __name__ == "__main__":
    main()
