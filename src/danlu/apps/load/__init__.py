"""Load on an OpenAI-compatible server, timed at the client: run.py drives, figures.py says what each figure means."""
