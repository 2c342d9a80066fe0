"""Things made with models, and what came before them."""
