"""The second copy: made, kept up to date, brought up to date again, made the store when the store is lost."""
