"""The names of torch.fx.experimental.optimization."""
