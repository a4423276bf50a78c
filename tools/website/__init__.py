"""The parts of the site that are generated: see `mkdocs.yml`."""
