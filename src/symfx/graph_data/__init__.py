"""The nodes of graphs as plain data: arguments as JSON, and the names that are safe in source."""
