"""Programs that write the generated parts of the documentation; `make pages` runs them, tests check that they were run."""
