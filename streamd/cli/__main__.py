"""`python -m streamd.cli`, where the installed command is not on the path."""

from streamd.cli import main

main()
