"""The parts of a ShapeEnv: symbols, knowledge, ledger of guards, inputs, switches, events."""
