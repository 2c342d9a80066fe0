"""Text to token ids and back: training, exact fast encoding, reports. No torch here."""
