"""What `streamd demo` adds to the daemon: a stream of real events, and a view of what the daemon makes of it."""
