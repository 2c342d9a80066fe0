"""What each family is compared on: one file a family."""
