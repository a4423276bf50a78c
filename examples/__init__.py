"""Programs to trace with symfx, each runnable as it stands."""
