"""Programs taken by torch.export and torch.compile, with stock torch and with symfx installed."""
