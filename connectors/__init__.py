"""The outside: one module an implementation of a port in `streamd.ports`. Only `streamd.wiring` imports these."""
