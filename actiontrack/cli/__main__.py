"""`python -m actiontrack.cli` does what `actiontrack` does."""

from actiontrack.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
