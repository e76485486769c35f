"""The steps of a pipeline from a decoded record to its outputs. Pure state machines: no clock, no I/O."""
