"""The analysts' tool below its command line: questions as values; what they find drawn, saved and explained."""
