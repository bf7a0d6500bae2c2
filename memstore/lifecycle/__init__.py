"""What happens to memories as they age: what can be done, what should be, who does it, and when."""
