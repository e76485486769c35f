"""What every test shares."""

from hypothesis import settings

settings.register_profile("streamd", derandomize=True, deadline=None, database=None)
settings.load_profile("streamd")
