"""streamd: a daemon that learns from a stream while it serves it. The picture is in README.md."""

from importlib.metadata import version

__version__ = version("streamd")
