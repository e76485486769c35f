"""What an operator does to a pipeline and what it takes: commands, snapshots at hand, replays, dead letters."""
