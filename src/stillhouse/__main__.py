"""``python -m stillhouse`` is the command ``stillhouse``."""

from stillhouse.cli.main import main

main()
