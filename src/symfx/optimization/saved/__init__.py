"""What a saved model may hold, for writing a file and for reading one alike: nodes and modules."""
