"""Everything that speaks HTTP: the OpenAI and Anthropic ways of asking, limits, keys, metrics and the studio's page."""
