"""``python -m tigerfox`` is the command ``tigerfox``."""

from tigerfox.cli import main

if __name__ == "__main__":
    main()
