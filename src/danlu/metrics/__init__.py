"""What is measured about text and models: plain functions on numbers and strings. No torch here."""
