"""The nodes and modules of a saved model: their form in the file, and the checks of both."""
